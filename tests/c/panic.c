/* Bugs in nodes and in the library: contained, a thousand times. */
#include "check.h"

rm_status rm_test_panic(rm_error **error); /* exported by test builds only */

static int heard;

static void hear(void *user_data, int32_t level, const char *target, size_t target_len,
                 const char *message, size_t message_len) {
    (void)user_data, (void)target, (void)target_len, (void)message, (void)message_len;
    heard += level == RM_LOG_ERROR;
}

static void a_panic_in_the_library_is_an_error(void) {
    for (int i = 0; i < 1000; i++)
        FAILS_WITH(RM_E_PANIC, "on purpose", rm_test_panic(&error));
    CHECK(rm_test_panic(NULL) == RM_E_PANIC);
}

static void a_panic_in_a_node_is_an_error_that_names_it(void) {
    static const char *const when[] = {"initialize", "process", "flush", "cleanup"};
    for (int i = 0; i < 1000; i++) {
        char params[40];
        snprintf(params, sizeof params, "{\"when\": \"%s\"}", when[i % 4]);
        rm_pipeline *pipeline = one_node(NULL, "TestPanic", params);
        rm_data *input = json("[1,2]"), *result = (rm_data *)&result;
        FAILS_WITH(RM_E_PANIC, "\"node\":\"n\",\"node_type\":\"TestPanic\"",
                   rm_pipeline_run(pipeline, input, -1, &result, NULL, &error));
        CHECK(result == NULL);
        rm_data_free(input);
        rm_pipeline_free(pipeline);
    }
}

static void the_run_is_over_and_the_pipeline_is_not(void) {
    rm_pipeline *pipeline = one_node(NULL, "TestPanic", "{\"when\": \"process\"}");
    rm_data *input = json("[1]"), *result = NULL, *report = NULL;
    rm_run *run = NULL;
    OK(rm_run_start(pipeline, input, -1, &run, &error));
    FAILS_WITH(RM_E_PANIC, "\"item\":0", rm_run_wait(run, -1, &result, NULL, &error));
    FAILS(RM_E_CLOSED, rm_run_wait(run, -1, &result, NULL, &error));
    OK(rm_run_report(run, &report, &error));
    CHECK(says(report, "\"items_in\":1"));
    rm_run_free(run);
    OK(rm_pipeline_run(pipeline, NULL, -1, &result, NULL, &error)); /* no item, no panic */
    CHECK(gives(result, "[]"));
    rm_data_free(input);
    rm_pipeline_free(pipeline);
}

static void a_run_whose_cleanup_panics_can_be_freed(void) {
    rm_pipeline *pipeline = one_node(NULL, "TestPanic", "{\"when\": \"cleanup\"}");
    rm_data *input = json("[1,2]"), *result = NULL;
    rm_run *run = NULL;
    OK(rm_run_start(pipeline, input, -1, &run, &error));
    rm_status status = rm_run_wait(run, 0, &result, NULL, &error);
    CHECK(status == RM_AGAIN || status == RM_E_PANIC);
    rm_error_free(error);
    error = NULL;
    rm_run_free(run);
    rm_data_free(input);
    rm_pipeline_free(pipeline);
}

static void panics_are_logged_and_never_printed(void) {
    heard = 0;
    OK(rm_set_log(hear, NULL, RM_LOG_ERROR, &error));
    FAILS(RM_E_PANIC, rm_test_panic(&error));
    OK(rm_set_log(NULL, NULL, 0, &error));
    CHECK(heard == 1);
}

int main(void) {
    RUN(a_panic_in_the_library_is_an_error);
    RUN(a_panic_in_a_node_is_an_error_that_names_it);
    RUN(the_run_is_over_and_the_pipeline_is_not);
    RUN(a_run_whose_cleanup_panics_can_be_freed);
    RUN(panics_are_logged_and_never_printed);
    return 0;
}
