/* rm_pipeline_call: a run in one crossing, with memory that is lent; and rm_queue_pending. */
#include "check.h"

static float numbers[4] = {1, 2, 3, 4};
static const int64_t four[1] = {4};

static rm_view tensor(void) {
    rm_view view = {.struct_size = sizeof view, .kind = RM_TENSOR};
    view.data = numbers;
    view.byte_len = sizeof numbers;
    view.shape = four;
    view.ndim = 1;
    view.dtype_code = 2;
    view.dtype_bits = 32;
    view.dtype_lanes = 1;
    return view;
}

/* One call with everything that can be set. */
static rm_status call(rm_pipeline *pipeline, uint32_t kind, const char *text, size_t len,
                      const rm_view *parts, uint32_t count, int64_t slice_us, rm_output *output,
                      rm_run **run) {
    output->struct_size = sizeof *output;
    return rm_pipeline_call(pipeline, kind, text, len, parts, count, -1, slice_us, output, run,
                            &error);
}

static void text_goes_in_and_out(void) {
    rm_pipeline *pipeline = one_node(NULL, "Add", "{\"addend\": 5}");
    rm_output output;
    rm_run *run = NULL;
    OK(call(pipeline, RM_JSON, TEXT("[1, 2.5]"), NULL, 0, -1, &output, &run));
    CHECK(output.len == 7 && memcmp(output.text, "[6,7.5]", 7) == 0);
    CHECK(output.part_count == 0);
    rm_data *report = NULL;
    OK(rm_run_report(run, &report, &error));
    CHECK(says(report, "\"items_done\":2"));
    rm_data *again = NULL;
    FAILS(RM_E_CLOSED, rm_run_wait(run, -1, &again, NULL, &error));
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void lent_memory_comes_back_where_it_was(void) {
    rm_pipeline *pipeline = one_node(NULL, "PassThrough", "{}");
    rm_view parts[2] = {tensor(), {.struct_size = sizeof(rm_view), .kind = RM_BYTES}};
    parts[1].data = "abc";
    parts[1].byte_len = 3;
    rm_output output;
    rm_run *run = NULL;
    const char *items = "[{\"$rm\": 0}, [{\"$rm\": 0}, {\"$rm\": 1}]]";
    OK(call(pipeline, RM_JSON, TEXT(items), parts, 2, -1, &output, &run));
    CHECK(output.part_count == 3 && (output.flags & RM_ESCAPED));
    CHECK(output.parts[0].data == numbers && output.parts[1].data == numbers);
    CHECK(output.parts[0].kind == RM_TENSOR && output.parts[0].shape[0] == 4);
    CHECK(output.parts[2].kind == RM_BYTES && output.parts[2].byte_len == 3);
    for (int i = 0; i < 3; i++)
        CHECK(!(output.parts[i].flags & RM_WRITABLE));
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void what_a_node_made_may_be_written_to(void) {
    rm_pipeline *pipeline = one_node(NULL, "Multiply", "{\"factor\": 2}");
    rm_view part = tensor();
    rm_output output;
    rm_run *run = NULL;
    OK(call(pipeline, RM_JSON, TEXT("[{\"$rm\": 0}]"), &part, 1, -1, &output, &run));
    CHECK(output.parts[0].data != numbers && (output.parts[0].flags & RM_WRITABLE));
    CHECK(((float *)output.parts[0].data)[3] == 8 && numbers[3] == 4);
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void a_call_goes_on_with_waits(void) {
    rm_pipeline *pipeline = one_node(NULL, "Delay", "{\"seconds\": 0.005}");
    rm_output output;
    rm_run *run = NULL;
    rm_data *result = NULL;
    AGAIN(call(pipeline, RM_JSON, TEXT("[1, 2]"), NULL, 0, 0, &output, &run));
    OK(rm_run_wait(run, -1, &result, NULL, &error));
    CHECK(gives(result, "[1,2]"));
    rm_run_free(run);
    AGAIN(call(pipeline, RM_JSON, TEXT("[1, 2, 3]"), NULL, 0, 1, &output, &run));
    rm_run_cancel(run);
    FAILS(RM_E_CANCELLED, rm_run_wait(run, -1, &result, NULL, &error));
    rm_run_free(run);
    AGAIN(call(pipeline, RM_JSON, TEXT("[1, 2, 3]"), NULL, 0, 1, &output, &run));
    rm_run_free(run); /* in mid-work */
    rm_pipeline_free(pipeline);
}

/* Marshal text with NULs in it. */
#define MARSHALLED(text) (text), sizeof(text) - 1

static void marshalled_values_keep_their_type(void) {
    rm_pipeline *pipeline = one_node(NULL, "PassThrough", "{}");
    rm_output output;
    rm_run *run = NULL;
    const char values[] = "[\x04\0\0\0i\x07\0\0\0g\0\0\0\0\0\0\xf8?u\x02\0\0\0\xc3\xa9"
                          "{u\x01\0\0\0aN0";
    OK(call(pipeline, RM_MARSHAL, MARSHALLED(values), NULL, 0, -1, &output, &run));
    CHECK(output.len == sizeof values - 1 && memcmp(output.text, values, output.len) == 0);
    CHECK(!(output.flags & RM_ESCAPED));
    rm_run_free(run);
    /* A dict with the key of the escape: a reference in one, as it stands in the other. */
    const char special[] = "[\x01\0\0\0{u\x03\0\0\0$rmi\0\0\0\0000";
    FAILS(RM_E_ARGUMENT,
          call(pipeline, RM_MARSHAL, MARSHALLED(special), NULL, 0, -1, &output, &run));
    OK(call(pipeline, RM_MARSHAL_PLAIN, MARSHALLED(special), NULL, 0, -1, &output, &run));
    CHECK(output.len > sizeof special - 1 && (output.flags & RM_ESCAPED));
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void marshalled_values_that_do_not_belong_are_refused(void) {
    rm_pipeline *pipeline = one_node(NULL, "PassThrough", "{}");
    rm_output output;
    rm_run *run = (rm_run *)&output;
#define REFUSED(code, text)                                                                        \
    FAILS(code, call(pipeline, RM_MARSHAL, MARSHALLED(text), NULL, 0, -1, &output, &run));         \
    CHECK(run == NULL)
    REFUSED(RM_E_ARGUMENT, "");
    REFUSED(RM_E_ARGUMENT, "[\x01\0\0\0");
    REFUSED(RM_E_ARGUMENT, "[\xff\xff\xff\x7f");
    REFUSED(RM_E_ARGUMENT, "[\x01\0\0\0s\x01\0\0\0x");
    REFUSED(RM_E_ARGUMENT, "[\x01\0\0\0c");
    REFUSED(RM_E_ARGUMENT, "[\0\0\0\0N");
    REFUSED(RM_E_ARGUMENT, "[\x01\0\0\0l\x06\0\0\0\1\0\1\0\1\0\1\0\1\0\1\0");
    REFUSED(RM_E_UTF8, "[\x01\0\0\0u\x03\0\0\0\xed\xa0\x80");
    rm_pipeline_free(pipeline);
}

static void misuse_is_refused(void) {
    rm_pipeline *pipeline = one_node(NULL, "PassThrough", "{}");
    rm_output output = {.struct_size = sizeof output};
    rm_run *run = NULL;
    rm_view part = tensor();
    FAILS(RM_E_ARGUMENT, call(NULL, RM_JSON, TEXT("[]"), NULL, 0, -1, &output, &run));
    FAILS(RM_E_ARGUMENT, call(pipeline, RM_TENSOR, TEXT("[]"), NULL, 0, -1, &output, &run));
    FAILS(RM_E_ARGUMENT, call(pipeline, RM_JSON, NULL, 5, NULL, 0, -1, &output, &run));
    FAILS(RM_E_ARGUMENT, call(pipeline, RM_JSON, TEXT("[]"), NULL, 1, -1, &output, &run));
    FAILS(RM_E_ARGUMENT, call(pipeline, RM_JSON, TEXT("5"), NULL, 0, -1, &output, &run));
    FAILS(RM_E_JSON, call(pipeline, RM_JSON, TEXT("[{\"$rm\": 1}]"), &part, 1, -1, &output, &run));
    FAILS(RM_E_JSON, call(pipeline, RM_JSON, TEXT("[\xff]"), NULL, 0, -1, &output, &run));
    part.kind = RM_JSON;
    FAILS(RM_E_ARGUMENT, call(pipeline, RM_JSON, TEXT("[]"), &part, 1, -1, &output, &run));
    part = tensor();
    part.struct_size = 8;
    FAILS(RM_E_ARGUMENT, call(pipeline, RM_JSON, TEXT("[]"), &part, 1, -1, &output, &run));
    FAILS(RM_E_ARGUMENT,
          rm_pipeline_call(pipeline, RM_JSON, TEXT("[]"), NULL, 0, -1, -1, NULL, &run, &error));
    FAILS(RM_E_ARGUMENT,
          rm_pipeline_call(pipeline, RM_JSON, TEXT("[]"), NULL, 0, -1, -1, &output, NULL, &error));
    output.struct_size = 8;
    FAILS(RM_E_ARGUMENT,
          rm_pipeline_call(pipeline, RM_JSON, TEXT("[]"), NULL, 0, -1, -1, &output, &run, &error));
    CHECK(run == NULL);
    rm_pipeline_free(pipeline);
}

static void a_failing_node_is_named(void) {
    rm_pipeline *pipeline = one_node(NULL, "Add", "{}");
    rm_output output;
    rm_run *run = NULL;
    rm_status status = call(pipeline, RM_JSON, TEXT("[1, \"x\"]"), NULL, 0, -1, &output, &run);
    FAILS_WITH(RM_E_NODE, "\"item\":1", status);
    CHECK(run == NULL);
    rm_pipeline_free(pipeline);
}

static void memory_is_used_again(void) {
    rm_pipeline *pipeline = one_node(NULL, "Multiply", "{\"factor\": 2}");
    static float many[100000];
    const int64_t shape[1] = {100000};
    rm_view part = tensor();
    part.data = many;
    part.byte_len = sizeof many;
    part.shape = shape;
    void *first = NULL;
    for (int i = 0; i < 20; i++) {
        rm_output output;
        rm_run *run = NULL;
        OK(call(pipeline, RM_JSON, TEXT("[{\"$rm\": 0}]"), &part, 1, -1, &output, &run));
        if (!first) first = output.parts[0].data;
        CHECK(output.parts[0].data == first);
        rm_run_free(run);
    }
    rm_data *pool = NULL;
    OK(rm_runtime_query(NULL, TEXT("memory"), &pool, &error));
    CHECK(says(pool, "\"reused\":19"));
    rm_pipeline_free(pipeline);
}

static void waiting_events_are_counted(void) {
    CHECK(rm_queue_pending(NULL) == NULL);
    rm_queue *queue = NULL;
    OK(rm_queue_new(&queue, &error));
    const uint32_t *pending = rm_queue_pending(queue);
    CHECK(*pending == 0);
    for (int i = 0; i < 3; i++)
        rm_queue_log(queue, RM_LOG_INFO, TEXT("host"), TEXT("hello"));
    CHECK(*pending == 3);
    rm_event events[2] = {{.struct_size = sizeof(rm_event)}, {.struct_size = sizeof(rm_event)}};
    uint32_t count = 0;
    OK(rm_queue_next(queue, 0, events, 2, &count, &error));
    CHECK(count == 2 && *pending == 1);
    for (int i = 0; i < 2; i++)
        rm_data_free(events[i].data);
    rm_queue_free(queue);
}

int main(void) {
    RUN(text_goes_in_and_out);
    RUN(lent_memory_comes_back_where_it_was);
    RUN(what_a_node_made_may_be_written_to);
    RUN(a_call_goes_on_with_waits);
    RUN(marshalled_values_keep_their_type);
    RUN(marshalled_values_that_do_not_belong_are_refused);
    RUN(misuse_is_refused);
    RUN(a_failing_node_is_named);
    RUN(memory_is_used_again);
    RUN(waiting_events_are_counted);
    return 0;
}
