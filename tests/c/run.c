/* rm_run. */
#include "check.h"

static rm_run *start(const char *type, const char *params, const char *items, int64_t timeout) {
    rm_pipeline *pipeline = one_node(NULL, type, params);
    rm_data *input = json(items);
    rm_run *run = NULL;
    OK(rm_run_start(pipeline, input, timeout, &run, &error));
    rm_pipeline_free(pipeline); /* the run keeps what it needs */
    rm_data_free(input);
    return run;
}

static rm_run *start_waiting(void) {
    return start("Delay", "{\"seconds\": 600}", "[1]", -1);
}

static rm_data *report_of(rm_run *run) {
    rm_data *report = NULL;
    OK(rm_run_report(run, &report, &error));
    return report;
}

static void null_is_refused_and_outs_are_null(void) {
    rm_pipeline *pipeline = one_node(NULL, "PassThrough", "{}");
    rm_run *run = (rm_run *)&run;
    FAILS(RM_E_ARGUMENT, rm_run_start(NULL, NULL, -1, &run, &error));
    CHECK(run == NULL);
    FAILS(RM_E_ARGUMENT, rm_run_start(pipeline, NULL, -1, NULL, &error));
    CHECK(rm_run_start(NULL, NULL, -1, NULL, NULL) == RM_E_ARGUMENT);

    rm_data *result = (rm_data *)&result, *report = (rm_data *)&report;
    FAILS(RM_E_ARGUMENT, rm_run_wait(NULL, -1, &result, &report, &error));
    CHECK(result == NULL && report == NULL);
    OK(rm_run_start(pipeline, NULL, -1, &run, &error));
    report = (rm_data *)&report;
    FAILS(RM_E_ARGUMENT, rm_run_wait(run, -1, NULL, &report, &error));
    CHECK(report == NULL);
    FAILS(RM_E_ARGUMENT, rm_run_report(run, NULL, &error));
    report = (rm_data *)&report;
    FAILS(RM_E_ARGUMENT, rm_run_report(NULL, &report, &error));
    CHECK(report == NULL);
    OK(rm_run_wait(run, -1, &result, NULL, &error)); /* none of this harmed it */
    CHECK(gives(result, "[]"));
    rm_run_cancel(NULL);
    rm_run_free(run);
    rm_run_free(NULL);
    rm_run_free(NULL);
    rm_pipeline_free(pipeline);
}

static void inputs_of_another_shape_are_refused_at_the_start(void) {
    rm_pipeline *pipeline = one_node(NULL, "PassThrough", "{}");
    rm_data *input = json("1");
    rm_run *run = (rm_run *)&run;
    FAILS(RM_E_ARGUMENT, rm_run_start(pipeline, input, -1, &run, &error));
    CHECK(run == NULL);
    rm_data_free(input);
    rm_pipeline_free(pipeline);
}

static void other_objects_are_told_apart(void) {
    rm_data *data = json("1"), *out = (rm_data *)&out;
    rm_run *wrong = (rm_run *)data, *run = (rm_run *)&run;
    FAILS(RM_E_ARGUMENT, rm_run_start((rm_pipeline *)data, NULL, -1, &run, &error));
    CHECK(run == NULL);
    FAILS(RM_E_ARGUMENT, rm_run_wait(wrong, -1, &out, NULL, &error));
    CHECK(out == NULL);
    FAILS(RM_E_ARGUMENT, rm_run_report(wrong, &out, &error));
    rm_run_cancel(wrong);
    rm_run_free(wrong);
    CHECK(gives(data, "1"));
}

static void a_run_gives_what_a_call_gives(void) {
    rm_run *run = start("Buffer", "{\"buffer_size\": 2}", "[1,2,3]", -1);
    CHECK(says(report_of(run), "\"items\":3,\"items_done\":0"));
    rm_data *result = NULL, *report = NULL;
    OK(rm_run_wait(run, -1, &result, &report, &error));
    CHECK(gives(result, "[[1,2],[3]]"));
    CHECK(strstr(view_of(report).json, "\"sinks\":{\"n\":2}"));
    CHECK(says(report, "\"items_in\":3,\"items_out\":2"));
    rm_run_free(run);
}

static void what_is_over_is_over(void) {
    rm_run *run = start("PassThrough", "{}", "[1]", -1);
    rm_data *result = NULL, *again = (rm_data *)&again;
    OK(rm_run_wait(run, -1, &result, NULL, &error));
    FAILS(RM_E_CLOSED, rm_run_wait(run, -1, &again, NULL, &error));
    CHECK(again == NULL);
    rm_run_cancel(run);
    CHECK(says(report_of(run), "\"items_done\":1"));
    rm_run_free(run);
    CHECK(gives(result, "[1]")); /* and belongs to the host */

    run = start("Add", "{}", "[1,\"x\"]", -1);
    FAILS_WITH(RM_E_NODE, "\"item\":1", rm_run_wait(run, -1, &result, NULL, &error));
    FAILS(RM_E_CLOSED, rm_run_wait(run, -1, &result, NULL, &error));
    CHECK(says(report_of(run), "\"items_done\":1"));
    rm_run_free(run);
}

static void a_poll_works_for_a_moment(void) {
    rm_run *run = start("TestSpin", "{\"when\": \"never\"}", "[1,2,3,4,5,6,7,8]", -1);
    int polls = 0;
    rm_data *result = NULL;
    rm_status status;
    while ((status = rm_run_wait(run, 0, &result, NULL, &error)) == RM_AGAIN) {
        CHECK(result == NULL && error == NULL);
        rm_data_free(report_of(run)); /* between waits it can be looked at */
        polls++;
    }
    OK(status);
    CHECK(polls >= 8);
    CHECK(gives(result, "[1,2,3,4,5,6,7,8]"));
    rm_run_free(run);
}

static void a_slice_ends_while_a_node_waits(void) {
    rm_run *run = start_waiting();
    rm_data *result = (rm_data *)&result;
    double begin = seconds();
    for (int slice = 0; slice < 3; slice++) {
        AGAIN(rm_run_wait(run, 20, &result, NULL, &error));
        CHECK(result == NULL);
    }
    CHECK(seconds() - begin > 0.05 && seconds() - begin < 10);
    rm_run_free(run);
}

static void time_runs_out(void) {
    rm_run *run = start("Delay", "{\"seconds\": 600}", "[1]", 500);
    rm_data *result = NULL;
    FAILS_WITH(RM_E_TIMEOUT, "\"item\":0", rm_run_wait(run, -1, &result, NULL, &error));
    FAILS(RM_E_CLOSED, rm_run_wait(run, -1, &result, NULL, &error));
    rm_run_free(run);
}

static void one_waits_and_others_are_told_so(void) {
    rm_run *run = start_waiting();
    pthread_t waiting = begin(wait_until_cancelled, run);
    until_busy(run);
    rm_data *result = (rm_data *)&result;
    FAILS(RM_E_BUSY, rm_run_wait(run, -1, &result, NULL, &error));
    CHECK(result == NULL);
    rm_run_cancel(run); /* from another thread */
    join(waiting);
    FAILS(RM_E_CLOSED, rm_run_wait(run, -1, &result, NULL, &error));
    rm_run_free(run);
}

static void who_waits_next_learns_of_a_cancellation(void) {
    rm_run *run = start("PassThrough", "{}", "[1]", -1);
    rm_data *result = NULL;
    rm_run_cancel(run);
    rm_run_cancel(run);
    FAILS(RM_E_CANCELLED, rm_run_wait(run, -1, &result, NULL, &error));
    FAILS(RM_E_CLOSED, rm_run_wait(run, -1, &result, NULL, &error));
    rm_run_free(run);
}

static void a_run_is_freed_at_any_time(void) {
    rm_run_free(start("PassThrough", "{}", "[1]", -1));

    rm_run *run = start_waiting();
    rm_data *result = NULL;
    AGAIN(rm_run_wait(run, 1, &result, NULL, &error));
    rm_run_free(run);

    run = start_waiting();
    pthread_t waiting = begin(wait_until_cancelled, run);
    until_busy(run);
    rm_run_free(run); /* while another thread waits for it */
    join(waiting);
}

int main(void) {
    RUN(null_is_refused_and_outs_are_null);
    RUN(inputs_of_another_shape_are_refused_at_the_start);
    RUN(other_objects_are_told_apart);
    RUN(a_run_gives_what_a_call_gives);
    RUN(what_is_over_is_over);
    RUN(a_poll_works_for_a_moment);
    RUN(a_slice_ends_while_a_node_waits);
    RUN(time_runs_out);
    RUN(one_waits_and_others_are_told_so);
    RUN(who_waits_next_learns_of_a_cancellation);
    RUN(a_run_is_freed_at_any_time);
    return 0;
}
