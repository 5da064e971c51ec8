/* rm_runtime. */
#include "check.h"

static rm_runtime *runtime_of(const char *options) {
    rm_runtime *runtime = NULL;
    OK(rm_runtime_new(TEXT(options), &runtime, &error));
    return runtime;
}

static rm_data *query(rm_runtime *runtime, const char *what) {
    rm_data *answer = NULL;
    OK(rm_runtime_query(runtime, TEXT(what), &answer, &error));
    return answer;
}

static void null_is_refused_and_outs_are_null(void) {
    rm_runtime *runtime = (rm_runtime *)&runtime;
    rm_data *data = (rm_data *)&data;
    FAILS(RM_E_ARGUMENT, rm_runtime_new(NULL, 0, NULL, &error));
    FAILS(RM_E_ARGUMENT, rm_runtime_new(NULL, 5, &runtime, &error));
    CHECK(runtime == NULL);
    CHECK(rm_runtime_new(NULL, 0, NULL, NULL) == RM_E_ARGUMENT);
    FAILS(RM_E_ARGUMENT, rm_runtime_query(NULL, NULL, 0, &data, &error));
    CHECK(data == NULL);
    FAILS(RM_E_ARGUMENT, rm_runtime_query(NULL, NULL, 5, &data, &error));
    FAILS(RM_E_ARGUMENT, rm_runtime_query(NULL, TEXT("limits"), NULL, &error));
    FAILS(RM_E_UTF8, rm_runtime_query(NULL, TEXT("\xff"), &data, &error));
    rm_runtime_free(NULL);
    rm_runtime_free(NULL);
}

static void options_are_checked(void) {
    const struct {
        rm_status code;
        const char *options;
    } wrong[] = {
        {RM_E_JSON, "{"},
        {RM_E_UTF8, "\"\xff\""},
        {RM_E_ARGUMENT, "[]"},
        {RM_E_ARGUMENT, "{\"limits\": [5]}"},
        {RM_E_ARGUMENT, "{\"limit\": {}}"},
        {RM_E_ARGUMENT, "{\"limits\": {\"node\": 1}}"},
        {RM_E_ARGUMENT, "{\"limits\": {\"nodes\": -1}}"},
        {RM_E_ARGUMENT, "{\"limits\": {\"nodes\": 1.5}}"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        rm_runtime *runtime = (rm_runtime *)&runtime;
        FAILS(wrong[i].code, rm_runtime_new(TEXT(wrong[i].options), &runtime, &error));
        CHECK(runtime == NULL);
    }
    rm_runtime_free(runtime_of(""));
    rm_runtime_free(runtime_of("{}"));
}

static void limits_hold_and_the_default_ones_stay(void) {
    rm_runtime *runtime = runtime_of("{\"limits\": {\"nodes\": 0}}");
    CHECK(says(query(runtime, "limits"), "\"nodes\":0"));
    CHECK(says(query(runtime, "limits"), "\"manifest_bytes\":1048576"));
    CHECK(says(query(NULL, "limits"), "\"nodes\":1000"));
    const char *manifest = "{\"version\": \"v1\", \"nodes\": [{\"id\": \"a\", \"node_type\": "
                           "\"PassThrough\"}], \"connections\": []}";
    rm_pipeline *pipeline = NULL;
    FAILS_WITH(RM_E_LIMIT, "/nodes", rm_pipeline_new(runtime, TEXT(manifest), &pipeline, &error));
    rm_runtime_free(runtime);

    runtime = runtime_of("{\"limits\": {\"value_depth\": 1}}");
    pipeline = one_node(runtime, "PassThrough", "{}");
    rm_data *flat = json("{\"n\": [[1]]}"), *deep = json("[[[1]]]"), *result = NULL;
    OK(rm_pipeline_run(pipeline, flat, -1, &result, NULL, &error));
    CHECK(gives(result, "[[1]]"));
    FAILS(RM_E_LIMIT, rm_pipeline_run(pipeline, deep, -1, &result, NULL, &error));
    rm_data_free(flat);
    rm_data_free(deep);
    rm_pipeline_free(pipeline);
    rm_runtime_free(runtime);
}

static void a_runtime_tells_about_itself(void) {
    rm_runtime *runtime = runtime_of("");
    CHECK(says(query(runtime, "nodes"), "\"name\":\"Calculator\""));
    CHECK(says(query(NULL, "nodes"), "\"example\":"));
    CHECK(says(query(runtime, "schema:Calculator"), "\"operand\""));
    CHECK(says(query(runtime, "schema:CalculatorNode"), "\"operand\""));
    rm_data *data = (rm_data *)&data;
    FAILS_WITH(RM_E_ARGUMENT, "Calculator",
               rm_runtime_query(runtime, TEXT("schema:Calculatr"), &data, &error));
    CHECK(data == NULL);
    FAILS_WITH(RM_E_ARGUMENT, "known are",
               rm_runtime_query(runtime, TEXT("weather"), &data, &error));
    FAILS(RM_E_ARGUMENT, rm_runtime_query(runtime, TEXT("limits:x"), &data, &error));

    /* The same text again is not parsed again. */
    CHECK(gives(query(runtime, "stats"), "{\"manifests_parsed\":0}"));
    for (int i = 0; i < 3; i++)
        rm_pipeline_free(one_node(runtime, "PassThrough", "{}"));
    CHECK(gives(query(runtime, "stats"), "{\"manifests_parsed\":1}"));
    rm_runtime_free(runtime);
}

static void handles_are_counted_by_type(void) {
    rm_queue *queue = NULL;
    OK(rm_queue_new(&queue, &error));
    rm_data *data = json("[1]"), *same = rm_data_retain(data);
    CHECK(says(query(NULL, "handles"), "\"rm_queue\":1"));
    CHECK(says(query(NULL, "handles"), "\"rm_data\":1")); /* one object, however many references */
    rm_data_free(same);
    rm_queue_free(queue);
    rm_data_free(data);
    CHECK(says(query(NULL, "handles"), "\"rm_queue\":0"));
}

static void what_is_closed_makes_and_runs_nothing(void) {
    rm_runtime *runtime = runtime_of("");
    rm_pipeline *pipeline = one_node(runtime, "PassThrough", "{}"), *none = NULL;
    rm_data *input = json("[1]"), *result = (rm_data *)&result;
    rm_run *run = (rm_run *)&run;
    OK(rm_runtime_close(runtime, -1, &error));
    OK(rm_runtime_close(runtime, 0, &error)); /* closing again is fine */
    FAILS(RM_E_CLOSED, rm_pipeline_run(pipeline, input, -1, &result, NULL, &error));
    CHECK(result == NULL);
    FAILS(RM_E_CLOSED, rm_run_start(pipeline, input, -1, &run, &error));
    CHECK(run == NULL);
    FAILS(RM_E_CLOSED, rm_pipeline_new(runtime, TEXT("{}"), &none, &error));
    CHECK(says(query(runtime, "limits"), "nodes")); /* it can still be asked */
    rm_data *info = NULL;
    OK(rm_pipeline_info(pipeline, &info, &error));
    rm_data_free(info);

    rm_runtime_free(runtime);
    FAILS(RM_E_CLOSED, rm_pipeline_run(pipeline, input, -1, &result, NULL, &error));
    rm_pipeline_free(pipeline);
    rm_data_free(input);
}

static void the_default_runtime_cannot_be_closed(void) {
    FAILS(RM_E_ARGUMENT, rm_runtime_close(NULL, 0, &error));
    CHECK(rm_runtime_close(NULL, 0, NULL) == RM_E_ARGUMENT);
    rm_pipeline_free(one_node(NULL, "PassThrough", "{}"));
}

static void *wait_for_run(void *argument) {
    rm_error *error = NULL;
    rm_data *result = NULL;
    FAILS(RM_E_CANCELLED, rm_run_wait(argument, -1, &result, NULL, &error));
    return NULL;
}

static void closing_cancels_the_runs_and_waits_for_them(void) {
    rm_runtime *runtime = runtime_of("");
    rm_pipeline *pipeline = one_node(runtime, "Delay", "{\"seconds\": 600}");
    rm_data *input = json("[1]");
    rm_run *run = NULL;
    OK(rm_run_start(pipeline, input, -1, &run, &error));
    AGAIN(rm_runtime_close(runtime, 0, &error)); /* it stands still: nobody waits for it */
    pthread_t waiting = begin(wait_for_run, run);
    OK(rm_runtime_close(runtime, -1, &error));
    join(waiting);
    rm_run_free(run);
    rm_data_free(input);
    rm_pipeline_free(pipeline);
    rm_runtime_free(runtime);
}

static void a_run_that_is_freed_is_not_waited_for(void) {
    rm_runtime *runtime = runtime_of("");
    rm_pipeline *pipeline = one_node(runtime, "PassThrough", "{}");
    rm_run *run = NULL;
    OK(rm_run_start(pipeline, NULL, -1, &run, &error));
    AGAIN(rm_runtime_close(runtime, 0, &error));
    rm_run_free(run);
    OK(rm_runtime_close(runtime, -1, &error));
    rm_pipeline_free(pipeline);
    rm_runtime_free(runtime);
}

static void objects_are_freed_in_any_order(void) {
    for (int order = 0; order < 6; order++) {
        static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                         {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
        rm_runtime *runtime = runtime_of("");
        rm_pipeline *pipeline = one_node(runtime, "PassThrough", "{}");
        rm_data *input = json("[1]"), *result = NULL;
        rm_run *run = NULL;
        OK(rm_run_start(pipeline, input, -1, &run, &error));
        rm_data_free(input);
        for (int i = 0; i < 3; i++) {
            switch (orders[order][i]) {
            case 0:
                rm_runtime_free(runtime);
                break;
            case 1:
                rm_pipeline_free(pipeline);
                break;
            case 2: /* without rm_runtime_close, runs go on */
                OK(rm_run_wait(run, -1, &result, NULL, &error));
                rm_run_free(run);
            }
        }
        CHECK(gives(result, "[1]"));
    }
}

static void other_objects_are_told_apart(void) {
    rm_data *data = json("1"), *answer = (rm_data *)&answer;
    rm_runtime *wrong = (rm_runtime *)data;
    rm_pipeline *pipeline = (rm_pipeline *)&pipeline;
    FAILS(RM_E_ARGUMENT, rm_runtime_query(wrong, TEXT("limits"), &answer, &error));
    CHECK(answer == NULL);
    FAILS(RM_E_ARGUMENT, rm_runtime_close(wrong, 0, &error));
    FAILS(RM_E_ARGUMENT, rm_pipeline_new(wrong, TEXT("{}"), &pipeline, &error));
    CHECK(pipeline == NULL);
    rm_runtime_free(wrong);
    CHECK(gives(data, "1"));
}

int main(void) {
    RUN(null_is_refused_and_outs_are_null);
    RUN(options_are_checked);
    RUN(limits_hold_and_the_default_ones_stay);
    RUN(a_runtime_tells_about_itself);
    RUN(handles_are_counted_by_type);
    RUN(what_is_closed_makes_and_runs_nothing);
    RUN(the_default_runtime_cannot_be_closed);
    RUN(closing_cancels_the_runs_and_waits_for_them);
    RUN(a_run_that_is_freed_is_not_waited_for);
    RUN(objects_are_freed_in_any_order);
    RUN(other_objects_are_told_apart);
    return 0;
}
