/* Processes that fork, and processes that just exit (rules 9 and 10). */
#include "check.h"

#include <sys/wait.h>

/* Runs the test in a child, which has half a minute, and takes its end for the test's. */
static void in_child(void (*test)(void *), void *argument) {
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(30);
        test(argument);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

struct inherited {
    rm_runtime *runtime;
    rm_pipeline *pipeline;
    rm_data *input;
    rm_run *run;
    rm_queue *queue;
    rm_error *failure;
    rm_run *fed;
    rm_task *task;
};

/* A node that leaves its task to others. */
static rm_task *left;

static void leave(void *state, const rm_data *input, rm_task *task) {
    (void)state, (void)input;
    __atomic_store_n(&left, task, __ATOMIC_SEQ_CST);
}

static const rm_node_vtable leaves = {
    .struct_size = sizeof leaves, .flags = RM_NODE_WAITS, .process = leave};

static struct inherited objects(void) {
    struct inherited all = {0};
    OK(rm_runtime_new(NULL, 0, &all.runtime, &error));
    all.pipeline = one_node(all.runtime, "Delay", "{\"seconds\": 600}");
    all.input = json("[1]");
    OK(rm_run_start(all.pipeline, all.input, -1, &all.run, &error));
    OK(rm_queue_new(&all.queue, &error));
    CHECK(rm_queue_new(NULL, &all.failure) == RM_E_ARGUMENT);
    OK(rm_runtime_add_node(all.runtime, TEXT("Leaves"), &leaves, NULL, &error));
    rm_pipeline *pipeline = one_node(all.runtime, "Leaves", "{}");
    OK(rm_run_open(pipeline, 0, -1, &all.fed, &error));
    rm_pipeline_free(pipeline);
    push(all.fed, "1", 0);
    while (!(all.task = __atomic_exchange_n(&left, NULL, __ATOMIC_SEQ_CST)))
        pause_ms(1);
    return all;
}

static void give_back(struct inherited *all) {
    rm_error_free(all->failure);
    rm_queue_free(all->queue);
    rm_data_free(all->input);
    rm_runtime_free(all->runtime);
    rm_pipeline_free(all->pipeline);
    rm_run_free(all->run);
    rm_task_finish(all->task, RM_OK, NULL);
    rm_run_free(all->fed);
}

static void run_something(void *unused) {
    (void)unused;
    rm_pipeline *pipeline = one_node(NULL, "Delay", "{\"seconds\": 0.001}");
    rm_data *input = json("[1, 2]"), *result = NULL;
    OK(rm_pipeline_run(pipeline, input, -1, &result, NULL, &error));
    CHECK(gives(result, "[1,2]"));
    rm_data_free(input);
    rm_pipeline_free(pipeline);
}

static void use_and_free(void *argument) {
    struct inherited *all = argument;
    rm_data *out = (rm_data *)&out;
    rm_pipeline *pipeline = NULL;
    rm_run *run = NULL;
    rm_view view = {.struct_size = sizeof view};
    rm_event event = {.struct_size = sizeof event};
    uint32_t count = 0;
    FAILS(RM_E_FORKED, rm_pipeline_run(all->pipeline, NULL, -1, &out, NULL, &error));
    CHECK(out == NULL);
    FAILS(RM_E_FORKED, rm_pipeline_info(all->pipeline, &out, &error));
    FAILS(RM_E_FORKED, rm_run_start(all->pipeline, NULL, -1, &run, &error));
    rm_call call = {.struct_size = sizeof call, .timeout_ms = -1};
    call.pipeline = all->pipeline;
    call.slice_us = -1;
    CHECK(rm_call_run(&call, TEXT("[]")) == RM_E_FORKED);
    CHECK(rm_error_code(call.error) == RM_E_FORKED && call.run == NULL);
    rm_call_clear(&call);
    CHECK(run == NULL);
    FAILS(RM_E_FORKED, rm_run_wait(all->run, -1, &out, NULL, &error));
    rm_status told = rm_run_report(all->run, &out, NULL);
    CHECK(told == RM_OK || told == RM_E_BUSY); /* the latter if it was at work in a thread */
    rm_data_free(out);
    out = NULL;
    FAILS(RM_E_FORKED, rm_data_view(all->input, &view, &error));
    FAILS(RM_E_FORKED, rm_pipeline_new(all->runtime, TEXT("{}"), &pipeline, &error));
    FAILS(RM_E_FORKED, rm_runtime_query(all->runtime, TEXT("limits"), &out, &error));
    FAILS(RM_E_FORKED, rm_runtime_close(all->runtime, -1, &error));
    FAILS(RM_E_FORKED, rm_queue_next(all->queue, -1, &event, 1, &count, &error));
    FAILS(RM_E_FORKED, rm_set_log(rm_queue_log, all->queue, 5, &error));
    CHECK(rm_error_code(all->failure) == RM_E_FORKED);
    CHECK(rm_data_retain(all->input) == NULL);
    CHECK(rm_queue_pending(all->queue) == NULL);
    CHECK(rm_task_cancelled(all->task) == RM_E_FORKED);
    FAILS(RM_E_FORKED, rm_task_emit(all->task, all->input, &error));
    FAILS(RM_E_FORKED, rm_runtime_add_node(all->runtime, TEXT("B"), &leaves, NULL, &error));
    OK(rm_runtime_add_node(NULL, TEXT("Leaves"), &leaves, NULL, &error)); /* one of its own */
    rm_run_cancel(all->run);
    rm_queue_log(all->queue, 1, TEXT("host"), TEXT("nowhere"));
    run_something(NULL);
    give_back(all);
    run_something(NULL);
}

static void inherited_objects_are_refused_and_freed(void) {
    OK(rm_runtime_add_node(NULL, TEXT("Leaves"), &leaves, NULL, &error));
    struct inherited all = objects();
    in_child(use_and_free, &all);
    rm_data *result = NULL; /* nothing of this reaches the parent */
    AGAIN(rm_run_wait(all.run, 0, &result, NULL, &error));
    give_back(&all);
}

static void the_default_runtime_works_in_a_child(void) {
    run_something(NULL);
    in_child(run_something, NULL);
    run_something(NULL);
}

static void fork_again(void *unused) {
    run_something(unused);
    in_child(run_something, NULL);
    run_something(unused);
}

static void a_child_may_fork_again(void) {
    in_child(fork_again, NULL);
}

static void *wait_for_run(void *run) {
    rm_error *error = NULL;
    rm_data *result = NULL;
    FAILS(RM_E_CANCELLED, rm_run_wait(run, -1, &result, NULL, &error));
    return NULL;
}

static void *wait_for_event(void *queue) {
    rm_event event = {.struct_size = sizeof event};
    uint32_t count = 0;
    CHECK(rm_queue_next(queue, -1, &event, 1, &count, NULL) == RM_E_CLOSED);
    return NULL;
}

static void a_fork_while_other_threads_work(void) {
    struct inherited all = objects();
    pthread_t waiting = begin(wait_for_run, all.run), fetching = begin(wait_for_event, all.queue);
    /* Not while a worker allocates: the sanitizer's allocator stays locked in a child. */
    for (bool begun = false; !begun; pause_ms(20)) {
        rm_data *state = NULL;
        OK(rm_run_diagnose(all.run, &state, &error));
        begun = strstr(view_of(state).json, "\"state\":\"running\"") != NULL;
        rm_data_free(state);
    }
    for (int times = 0; times < 20; times++)
        in_child(use_and_free, &all);
    rm_run_cancel(all.run);
    join(waiting);
    give_back(&all);
    join(fetching);
}

/* Many threads are in the library, wherever that is, when the process forks. */
static int stop;

static inline void *keep_busy(void *queue) {
    rm_error *error = NULL;
    while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
        rm_data *result = NULL;
        const char *manifest = "{\"version\": \"v1\", \"nodes\": [{\"id\": \"a\", \"node_type\": "
                               "\"PassThrough\"}], \"connections\": []}";
        OK(rm_run_manifest(TEXT(manifest), TEXT("[1]"), &result, &error));
        rm_queue_free((rm_queue *)result); /* no queue: logged */
        rm_data_free(result);
        rm_queue_log(queue, RM_LOG_INFO, TEXT("host"), TEXT("busy"));
    }
    return NULL;
}

static inline void free_queue_and_run(void *queue) {
    rm_queue_free(queue);
    OK(rm_set_log(NULL, NULL, 0, &error));
    run_something(NULL);
}

static inline void a_fork_in_the_middle_of_anything(void) {
    rm_queue *queue = NULL;
    pthread_t threads[4];
    OK(rm_queue_new(&queue, &error));
    OK(rm_set_log(rm_queue_log, queue, RM_LOG_TRACE, &error));
    for (int i = 0; i < 4; i++)
        threads[i] = begin(keep_busy, queue);
    for (int times = 0; times < 50; times++)
        in_child(free_queue_and_run, queue);
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 4; i++)
        join(threads[i]);
    OK(rm_set_log(NULL, NULL, 0, &error));
    rm_queue_free(queue);
}

/* A child has the memory that its parent's workers had in hand, and no workers to refer to it. */
static int is_child;
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) {
    return is_child;
}

static void just_exit(void *unused) {
    (void)unused;
    is_child = 1;
    struct inherited all = objects();
    begin(wait_for_run, all.run);
    begin(wait_for_event, all.queue);
    exit(0); /* not _exit: destructors run */
}

static void a_process_may_just_exit(void) {
    for (int times = 0; times < 20; times++)
        in_child(just_exit, NULL);
}

int main(void) {
    RUN(inherited_objects_are_refused_and_freed);
    RUN(the_default_runtime_works_in_a_child);
    RUN(a_child_may_fork_again);
    RUN(a_fork_while_other_threads_work);
#ifndef __SANITIZE_ADDRESS__ /* its allocator stays locked in a child */
    RUN(a_fork_in_the_middle_of_anything);
#endif
    RUN(a_process_may_just_exit);
    return 0;
}
