/* Any function from any thread (rule 1). */
#include "check.h"

enum { THREADS = 8, TIMES = 200 };

static struct {
    rm_runtime *runtime;
    rm_pipeline *pipeline;
    rm_data *input;
} shared;

static void *run_many_times(void *number) {
    rm_error *error = NULL;
    int own = (int)(intptr_t)number;
    for (int i = 0; i < TIMES; i++) {
        rm_data *result = NULL, *input = NULL;
        OK(rm_pipeline_run(shared.pipeline, shared.input, -1, &result, NULL, &error));
        CHECK(gives(result, "[6,7,8]"));

        char items[40], sum[40];
        snprintf(items, sizeof items, "[%d]", own * TIMES + i);
        snprintf(sum, sizeof sum, "[%d]", own * TIMES + i + 5);
        input = json(items);
        OK(rm_pipeline_run(shared.pipeline, input, -1, &result, NULL, &error));
        rm_data_free(input);
        CHECK(gives(result, sum));
    }
    return NULL;
}

static void *use_everything(void *unused) {
    rm_error *error = NULL;
    for (int i = 0; i < TIMES; i++) {
        rm_data *same = rm_data_retain(shared.input), *limits = NULL, *result = NULL;
        CHECK(gives(same, "[1,2,3]"));
        OK(rm_runtime_query(shared.runtime, TEXT("limits"), &limits, &error));
        rm_data_free(limits);
        char params[40]; /* more manifests than are remembered */
        snprintf(params, sizeof params, "{\"addend\": %d}", i);
        rm_pipeline *pipeline = one_node(shared.runtime, "Add", params);
        rm_run *run = NULL;
        OK(rm_run_start(pipeline, shared.input, -1, &run, &error));
        rm_pipeline_free(pipeline);
        OK(rm_run_wait(run, -1, &result, NULL, &error));
        rm_run_free(run);
        rm_data_free(result);
        FAILS(RM_E_ARGUMENT, rm_pipeline_info(NULL, &result, &error));
    }
    return unused;
}

static void in_all_threads(void *(*work)(void *)) {
    pthread_t threads[THREADS];
    OK(rm_runtime_new(NULL, 0, &shared.runtime, &error));
    shared.pipeline =
        one_node(shared.runtime, "Calculator", "{\"operation\": \"add\", \"operand\": 5}");
    shared.input = json("[1,2,3]");
    for (intptr_t i = 0; i < THREADS; i++)
        threads[i] = begin(work, (void *)i);
    for (int i = 0; i < THREADS; i++)
        join(threads[i]);
    rm_data_free(shared.input);
    rm_pipeline_free(shared.pipeline);
    rm_runtime_free(shared.runtime);
}

static void many_threads_share_a_pipeline(void) {
    in_all_threads(run_many_times);
}

static void many_threads_share_everything(void) {
    in_all_threads(use_everything);
}

/* The sink changes all the time. A function that was replaced is not called again. */
static int generation;

static void hear(void *user_data, int32_t level, const char *target, size_t target_len,
                 const char *message, size_t message_len) {
    (void)level, (void)target, (void)target_len, (void)message, (void)message_len;
    CHECK(*(int *)user_data == __atomic_load_n(&generation, __ATOMIC_SEQ_CST));
}

static void *log_many_times(void *unused) {
    rm_error *error = NULL;
    for (int i = 0; i < TIMES * 5; i++) {
        rm_data *data = json("1");
        rm_run_free((rm_run *)data); /* no run: logged */
        rm_data_free(data);
    }
    (void)error;
    return unused;
}

static void a_sink_that_was_replaced_is_not_called_again(void) {
    pthread_t threads[2] = {begin(log_many_times, NULL), begin(log_many_times, NULL)};
    static int numbers[2 * TIMES];
    for (int i = 1; i < 2 * TIMES; i++) {
        numbers[i] = i;
        __atomic_store_n(&generation, i, __ATOMIC_SEQ_CST);
        OK(rm_set_log(hear, &numbers[i], RM_LOG_TRACE, &error));
        OK(rm_set_log(NULL, NULL, 0, &error));
    }
    join(threads[0]);
    join(threads[1]);
}

int main(void) {
    RUN(many_threads_share_a_pipeline);
    RUN(many_threads_share_everything);
    RUN(a_sink_that_was_replaced_is_not_called_again);
    return 0;
}
