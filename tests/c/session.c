/* Runs that are fed piece by piece: rm_run_open and what belongs to it. */
#include "check.h"

#include <poll.h>

/* Numbers as marshal writes them, and lengths. */
#define N0 "\000\000\000\000"
#define N1 "\001\000\000\000"
#define N2 "\002\000\000\000"
#define N3 "\003\000\000\000"
#define N4 "\004\000\000\000"
#define N5 "\005\000\000\000"
#define N6 "\006\000\000\000"
#define N7 "\007\000\000\000"
#define N8 "\010\000\000\000"
#define N9 "\011\000\000\000"
#define N10 "\012\000\000\000"
#define MINUS1 "\377\377\377\377"
#define MINUS2 "\376\377\377\377"
/* The beginning of an object that stands for a binary part; it ends in "0". */
#define PART "{u" N3 "$rm"
#define BYTES(text) (text), sizeof(text) - 1
#define NO_ONE NULL, 0

static rm_pipeline *pipeline_of(const char *nodes, const char *connections, const char *types) {
    char manifest[1000];
    snprintf(manifest, sizeof manifest,
             "{\"version\": \"v1\", \"nodes\": [%s], \"connections\": [%s]}", nodes, connections);
    rm_pipeline *pipeline = NULL;
    if (types) {
        OK(rm_pipeline_new_hosted(NULL, TEXT(manifest), TEXT(types), &pipeline, &error));
    } else {
        OK(rm_pipeline_new(NULL, TEXT(manifest), &pipeline, &error));
    }
    return pipeline;
}

/* A run of this pipeline, which it keeps. */
static rm_run *opened(rm_pipeline *pipeline, uint64_t window, int64_t timeout_ms) {
    rm_run *run = NULL;
    OK(rm_run_open(pipeline, window, timeout_ms, &run, &error));
    rm_pipeline_free(pipeline);
    return run;
}

static rm_run *open_one(const char *type, const char *params, uint64_t window) {
    return opened(one_node(NULL, type, params), window, -1);
}

static rm_run *open_waiting(void) {
    return open_one("Delay", "{\"seconds\": 600}", 0);
}

/* A run whose only node, "h", is the host's. */
static rm_run *open_hosted(const char *more, uint64_t window) {
    char node[300];
    snprintf(node, sizeof node, "{\"id\": \"h\", \"node_type\": \"Mine\"%s}", more);
    return opened(pipeline_of(node, "", "[\"Mine\", \"Unused\"]"), window, -1);
}

#define PULL_FAILS(code, run)                                                                      \
    do {                                                                                           \
        rm_output none;                                                                            \
        FAILS(code, pull(run, -1, &none));                                                         \
    } while (0)

static rm_data *state_of(rm_run *run) {
    rm_data *state = NULL;
    OK(rm_run_diagnose(run, &state, &error));
    return state;
}

static rm_status set(rm_run *run, const char *node, const char *params) {
    return rm_run_set(run, TEXT(node), TEXT(params), &error);
}

/* Place for an exchange, which asks for everything and waits for nothing. */
static char room[500];

static rm_call place_for(rm_run *run) {
    rm_call call;
    memset(&call, 'x', sizeof call); /* the library is to overwrite all that it gives */
    call.struct_size = sizeof call;
    call.flags = call.kind = call.part_count = call.want = 0;
    call.pipeline = NULL;
    call.run = NULL;
    call.parts = NULL;
    call.slice_us = call.timeout_ms = -1;
    call.buffer = room;
    call.buffer_len = sizeof room;
    call.session = run;
    call.most = call.most_tasks = 100;
    return call;
}

/* For OK, AGAIN and FAILS. Nothing that was held may be lost. */
static rm_status exchange(rm_call *call, const char *text, size_t len) {
    rm_run *run = call->session;
    call->error = NULL;
    rm_status status = rm_call_exchange(call, text, len);
    CHECK(call->session == run && call->run == NULL);
    CHECK(!call->held == !(call->given & RM_HELD) && !call->text == !call->len);
    CHECK(call->held || (call->given_parts == NULL && call->given_count == 0));
    error = call->error;
    call->error = NULL;
    return status;
}

static bool is_text(const rm_call *call, const char *text, size_t len) {
    bool same = call->len == len && memcmp(call->text, text, len) == 0;
    if (!same) {
        fprintf(stderr, "%zu bytes, not %zu:", call->len, len);
        for (size_t i = 0; i < call->len; i++)
            fprintf(stderr, " %02x", (unsigned char)call->text[i]);
        fprintf(stderr, "\n");
    }
    return same;
}

/* The exchange gives this list of outputs and this list of tasks, in the room for it. */
#define GIVES(call, outputs, tasks)                                                                \
    CHECK(!(call).given && (call).text == room && is_text(&(call), BYTES("[" N2 outputs tasks)))
/* It gives nothing. */
#define GIVES_NOTHING(call) CHECK(!(call).given && !(call).text && !(call).len)
/* A text with these items and these answers. */
#define SAY(items, answers) BYTES("[" N3 items answers "N")
#define NONE "[" N0
#define SILENCE NULL, 0

static void null_is_refused_and_outs_are_null(void) {
    rm_pipeline *pipeline = one_node(NULL, "PassThrough", "{}");
    rm_run *run = (rm_run *)&run;
    FAILS(RM_E_ARGUMENT, rm_run_open(NULL, 0, -1, &run, &error));
    CHECK(run == NULL);
    FAILS(RM_E_ARGUMENT, rm_run_open(pipeline, 0, -1, NULL, &error));
    CHECK(rm_run_open(NULL, 0, -1, NULL, NULL) == RM_E_ARGUMENT);
    OK(rm_run_open(pipeline, 0, -1, &run, &error));

    rm_data *item = json("1"), *out = (rm_data *)&out;
    uint64_t number = 7;
    FAILS(RM_E_ARGUMENT, rm_run_push(NULL, item, NO_ONE, -1, &number, &error));
    FAILS(RM_E_ARGUMENT, rm_run_push(run, NULL, NO_ONE, -1, &number, &error));
    CHECK(number == 7);
    FAILS(RM_E_ARGUMENT, rm_run_end(NULL, &error));
    rm_output output = {.struct_size = sizeof output};
    uint32_t count = 7;
    FAILS(RM_E_ARGUMENT, rm_run_pull(NULL, -1, &output, 1, &count, &error));
    CHECK(count == 0 && output.data == NULL);
    count = 7;
    FAILS(RM_E_ARGUMENT, rm_run_pull(run, -1, NULL, 1, &count, &error));
    CHECK(count == 0);
    FAILS(RM_E_ARGUMENT, rm_run_pull(run, -1, &output, 1, NULL, &error));
    FAILS(RM_E_ARGUMENT, rm_run_pull(run, -1, &output, 0, &count, &error));
    CHECK(rm_run_pull(NULL, -1, NULL, 1, NULL, NULL) == RM_E_ARGUMENT);
    FAILS(RM_E_ARGUMENT, rm_run_interrupt(NULL, &error));
    FAILS(RM_E_ARGUMENT, rm_run_set(NULL, TEXT("n"), TEXT("{}"), &error));
    FAILS(RM_E_ARGUMENT, rm_run_set(run, NULL, 1, TEXT("{}"), &error));
    FAILS(RM_E_ARGUMENT, rm_run_set(run, TEXT("n"), NULL, 2, &error));
    FAILS(RM_E_ARGUMENT, rm_run_diagnose(NULL, &out, &error));
    CHECK(out == NULL);
    FAILS(RM_E_ARGUMENT, rm_run_diagnose(run, NULL, &error));
    CHECK(rm_run_fd(NULL) == -1);
    CHECK(rm_call_exchange(NULL, SILENCE) == RM_E_ARGUMENT);
    rm_call call = place_for(NULL);
    FAILS(RM_E_ARGUMENT, exchange(&call, SILENCE));
    call = place_for(run);
    FAILS(RM_E_ARGUMENT, exchange(&call, NULL, 5));
    call.part_count = 1;
    FAILS(RM_E_ARGUMENT, exchange(&call, SAY(NONE, NONE)));

    OK(rm_run_push(run, item, NO_ONE, -1, NULL, &error)); /* none of this harmed it */
    pulls(run, 0, 0, "1");
    rm_data_free(item);
    rm_run_free(run);

    const char *manifest = "{\"version\": \"v1\", \"nodes\": [], \"connections\": []}";
    rm_pipeline *hosted = (rm_pipeline *)&hosted;
    FAILS(RM_E_ARGUMENT, rm_pipeline_new_hosted(NULL, NULL, 1, TEXT("[]"), &hosted, &error));
    CHECK(hosted == NULL);
    FAILS(RM_E_ARGUMENT, rm_pipeline_new_hosted(NULL, TEXT(manifest), NULL, 1, &hosted, &error));
    FAILS(RM_E_ARGUMENT, rm_pipeline_new_hosted(NULL, TEXT(manifest), TEXT("[]"), NULL, &error));
    hosted = (rm_pipeline *)&hosted;
    FAILS(RM_E_JSON, rm_pipeline_new_hosted(NULL, TEXT(manifest), TEXT("[1]"), &hosted, &error));
    CHECK(hosted == NULL);
    FAILS(RM_E_UTF8, rm_pipeline_new_hosted(NULL, TEXT(manifest), "\377", 1, &hosted, &error));
    rm_pipeline_free(pipeline);
}

static void other_objects_are_told_apart(void) {
    rm_data *data = json("1"), *out = (rm_data *)&out;
    rm_run *wrong = (rm_run *)data, *run = (rm_run *)&run;
    FAILS(RM_E_ARGUMENT, rm_run_open((rm_pipeline *)data, 0, -1, &run, &error));
    CHECK(run == NULL);
    FAILS(RM_E_ARGUMENT, rm_run_push(wrong, data, NO_ONE, 0, NULL, &error));
    FAILS(RM_E_ARGUMENT, rm_run_end(wrong, &error));
    PULL_FAILS(RM_E_ARGUMENT, wrong);
    FAILS(RM_E_ARGUMENT, rm_run_interrupt(wrong, &error));
    FAILS(RM_E_ARGUMENT, set(wrong, "n", "{}"));
    FAILS(RM_E_ARGUMENT, rm_run_diagnose(wrong, &out, &error));
    CHECK(rm_run_fd(wrong) == -1);
    rm_call call = place_for(wrong);
    FAILS(RM_E_ARGUMENT, exchange(&call, SILENCE));
    run = open_one("PassThrough", "{}", 0);
    FAILS(RM_E_ARGUMENT, rm_run_push(run, (rm_data *)run, NO_ONE, 0, NULL, &error));
    rm_run_free(run);
    rm_pipeline *pipeline = (rm_pipeline *)&pipeline;
    FAILS(RM_E_ARGUMENT,
          rm_pipeline_new_hosted((rm_runtime *)data, TEXT("{}"), TEXT("[]"), &pipeline, &error));
    CHECK(pipeline == NULL);
    CHECK(gives(data, "1"));
}

static void structs_state_their_size(void) {
    rm_run *run = open_one("PassThrough", "{}", 0);
    push(run, "1", 0);
    push(run, "2", 1);
    rm_output small = {.struct_size = sizeof small - 1};
    uint32_t count = 7;
    FAILS_WITH(RM_E_ARGUMENT, "struct_size", rm_run_pull(run, -1, &small, 1, &count, &error));
    CHECK(count == 0 && small.data == NULL);

    /* A newer host's are larger. */
    struct {
        rm_output known;
        uint64_t more;
    } large[2] = {{.known.struct_size = sizeof *large, .more = 5}, {.more = 6}};
    OK(rm_run_pull(run, -1, &large[0].known, 2, &count, &error));
    CHECK(count == 2 && large[0].more == 5 && large[1].more == 6);
    for (int i = 0; i < 2; i++) {
        CHECK(large[i].known.struct_size == sizeof *large && large[i].known.item == i);
        CHECK(gives(large[i].known.data, i ? "2" : "1"));
    }

    rm_call call = place_for(run);
    call.struct_size--;
    CHECK(rm_call_exchange(&call, SILENCE) == RM_E_ARGUMENT);
    CHECK(call.accepted == 0x78787878); /* untouched */
    rm_run_free(run);
}

static void items_go_in_and_outputs_come_out(void) {
    rm_run *run = open_one("Multiply", "{\"factor\": 2}", 0);
    rm_output output;
    AGAIN(pull(run, 0, &output));
    AGAIN(pull(run, 5, &output));
    push(run, "1", 0);
    pulls(run, 0, 0, "2");
    AGAIN(pull(run, 0, &output));
    push(run, "2", 1);
    push(run, "3", 2);
    pulls(run, 0, 1, "4");
    OK(rm_run_end(run, &error));
    pulls(run, 0, 2, "6");
    has_ended(run);

    rm_data *result = NULL, *report = NULL;
    OK(rm_run_wait(run, -1, &result, &report, &error)); /* its outputs were pulled */
    CHECK(gives(result, "[]"));
    CHECK(says(report, "\"items\":3,\"items_done\":3"));
    FAILS(RM_E_CLOSED, rm_run_wait(run, -1, &result, NULL, &error));
    rm_run_free(run);
}

static void many_come_at_a_time(void) {
    rm_run *run = open_one("PassThrough", "{}", 0);
    for (uint64_t i = 0; i < 5; i++)
        push(run, "\"a\"", i);
    rm_output outputs[3] = {{.struct_size = sizeof *outputs}};
    uint32_t count = 0;
    OK(rm_run_pull(run, -1, outputs, 3, &count, &error));
    CHECK(count == 3);
    for (int i = 0; i < 3; i++) {
        CHECK(outputs[i].struct_size == sizeof *outputs && outputs[i].item == i);
        CHECK(gives(outputs[i].data, "\"a\""));
    }
    OK(rm_run_pull(run, -1, outputs, 3, &count, &error)); /* no more are waited for */
    CHECK(count == 2 && outputs[0].item == 3 && outputs[1].item == 4);
    rm_data_free(outputs[0].data);
    rm_data_free(outputs[1].data);
    AGAIN(rm_run_pull(run, 0, outputs, 3, &count, &error));
    CHECK(count == 0);
    rm_run_free(run);
}

static void a_full_window_holds_back(void) {
    rm_run *run = open_one("PassThrough", "{}", 2);
    push(run, "1", 0);
    push(run, "2", 1);
    uint64_t number = 7;
    AGAIN(try_push(run, "3", NULL, 0, &number, &error));
    AGAIN(try_push(run, "3", NULL, 5, &number, &error));
    CHECK(number == 7);
    pulls(run, 0, 0, "1");
    push(run, "3", 2);
    AGAIN(try_push(run, "4", NULL, 0, &number, &error));
    pulls(run, 0, 1, "2");
    pulls(run, 0, 2, "3"); /* nothing is lost, and what was not taken is not in */
    OK(rm_run_end(run, &error));
    has_ended(run);
    rm_run_free(run);

    run = open_one("PassThrough", "{}", 0); /* 64 */
    for (uint64_t i = 0; i < 64; i++)
        push(run, "1", i);
    AGAIN(try_push(run, "1", NULL, 0, NULL, &error));
    rm_run_free(run); /* with all its outputs */
}

static void an_item_is_nested_up_to_the_limit(void) {
    rm_runtime *runtime = NULL;
    OK(rm_runtime_new(TEXT("{\"limits\": {\"value_depth\": 2}}"), &runtime, &error));
    rm_run *run = opened(one_node(runtime, "PassThrough", "{}"), 0, -1);
    rm_runtime_free(runtime);
    push(run, "[[1]]", 0);
    FAILS(RM_E_LIMIT, try_push(run, "[[[1]]]", NULL, -1, NULL, &error));
    pulls(run, 0, 0, "[[1]]");
    rm_call call = place_for(run);
    FAILS(RM_E_LIMIT, exchange(&call, SAY("[" N1 "[" N1 "[" N1 NONE, NONE)));
    GIVES_NOTHING(call);
    OK(exchange(&call, SAY("[" N1 "[" N1 NONE, NONE)));
    CHECK(call.accepted == 1);
    rm_run_free(run);
}

static void what_is_flushed_has_no_item(void) {
    rm_run *run = open_one("Buffer", "{\"buffer_size\": 2}", 0);
    push(run, "1", 0);
    push(run, "2", 1);
    push(run, "3", 2);
    pulls(run, 0, 1, "[1,2]");
    OK(rm_run_end(run, &error));
    pulls(run, 0, -1, "[3]");
    has_ended(run);
    rm_run_free(run);
}

static rm_run *open_two_sources(void) {
    return opened(pipeline_of("{\"id\": \"a\", \"node_type\": \"PassThrough\"},"
                              "{\"id\": \"b\", \"node_type\": \"PassThrough\"},"
                              "{\"id\": \"c\", \"node_type\": \"Multiply\", \"params\": "
                              "{\"factor\": 10}}",
                              "{\"from\": \"b\", \"to\": \"c\"}", NULL),
                  0, -1);
}

static void an_item_is_for_all_sources_or_for_one(void) {
    rm_run *run = open_two_sources();
    push(run, "1", 0);
    OK(try_push(run, "2", "b", -1, NULL, &error));
    OK(try_push(run, "3", "a", -1, NULL, &error));
    FAILS_WITH(RM_E_ARGUMENT, "\\\"c\\\"", try_push(run, "4", "c", -1, NULL, &error));
    FAILS_WITH(RM_E_ARGUMENT, "\\\"d\\\"", try_push(run, "4", "d", -1, NULL, &error));
    FAILS(RM_E_ARGUMENT, try_push(run, "4", "", -1, NULL, &error));
    FAILS(RM_E_UTF8, try_push(run, "4", "\377", -1, NULL, &error));
    OK(rm_run_end(run, &error));
    pulls(run, 0, 0, "1");
    pulls(run, 2, 0, "10");
    pulls(run, 2, 1, "20");
    pulls(run, 0, 2, "3");
    has_ended(run);
    rm_run_free(run);
}

static void a_failure_comes_after_what_came_before_it(void) {
    rm_run *run = open_one("Add", "{\"addend\": 0}", 0);
    push(run, "1", 0);
    push(run, "2", 1);
    push(run, "\"x\"", 2);
    pulls(run, 0, 0, "1");
    pulls(run, 0, 1, "2");
    rm_output output;
    for (int times = 0; times < 2; times++)
        FAILS_WITH(RM_E_NODE, "\"item\":2", pull(run, -1, &output));
    FAILS_WITH(RM_E_NODE, "\"node\":\"n\"", try_push(run, "3", NULL, -1, NULL, &error));
    FAILS(RM_E_NODE, rm_run_end(run, &error));
    FAILS(RM_E_CLOSED, set(run, "n", "{}"));
    OK(rm_run_interrupt(run, &error)); /* which does nothing */
    FAILS_WITH(RM_E_NODE, "\"item\":2", pull(run, -1, &output));
    rm_call call = place_for(run);
    FAILS(RM_E_NODE, exchange(&call, SILENCE));
    GIVES_NOTHING(call);
    rm_run_free(run);

    run = open_one("TestPanic", "{\"when\": \"process\"}", 0);
    (void)try_push(run, "1", NULL, -1, NULL, NULL);
    PULL_FAILS(RM_E_PANIC, run);
    rm_run_free(run);
    run = open_one("TestPanic", "{\"when\": \"cleanup\"}", 0);
    push(run, "1", 0);
    (void)rm_run_end(run, NULL);
    pulls(run, 0, 0, "1");
    PULL_FAILS(RM_E_PANIC, run);
    rm_run_free(run);
}

static void an_end_is_an_end(void) {
    rm_run *run = open_one("PassThrough", "{}", 0);
    push(run, "1", 0);
    OK(rm_run_end(run, &error));
    OK(rm_run_end(run, &error));
    FAILS(RM_E_CLOSED, try_push(run, "2", NULL, -1, NULL, &error));
    FAILS(RM_E_CLOSED, set(run, "n", "{}"));
    rm_call call = place_for(run);
    FAILS(RM_E_CLOSED, exchange(&call, SAY("[" N1 "i" N2, NONE)));
    GIVES_NOTHING(call);
    CHECK(call.accepted == 0);
    pulls(run, 0, 0, "1");
    has_ended(run);
    OK(rm_run_end(run, &error));
    rm_run_cancel(run); /* too late */
    has_ended(run);
    rm_run_free(run);

    run = open_one("PassThrough", "{}", 0); /* without an item */
    OK(rm_run_end(run, &error));
    has_ended(run);
    rm_run_free(run);
}

static void time_runs_out(void) {
    rm_run *run = opened(one_node(NULL, "Delay", "{\"seconds\": 600}"), 0, 20);
    (void)try_push(run, "1", NULL, 0, NULL, NULL); /* which may already be too late */
    PULL_FAILS(RM_E_TIMEOUT, run);
    FAILS(RM_E_TIMEOUT, try_push(run, "1", NULL, -1, NULL, &error));
    rm_run_free(run);
}

static void *cancel_it(void *run) {
    rm_run_cancel(run);
    return NULL;
}

static void a_run_is_cancelled_at_any_time(void) {
    rm_run *run = open_waiting();
    push(run, "1", 0);
    pthread_t thread = begin(cancel_it, run);
    PULL_FAILS(RM_E_CANCELLED, run);
    join(thread);
    FAILS(RM_E_CANCELLED, try_push(run, "2", NULL, -1, NULL, &error));
    FAILS(RM_E_CANCELLED, rm_run_end(run, &error));
    rm_run_free(run);

    run = open_one("PassThrough", "{}", 1);
    push(run, "1", 0);
    thread = begin(cancel_it, run);
    FAILS(RM_E_CANCELLED, try_push(run, "2", NULL, -1, NULL, &error)); /* which waits for room */
    join(thread);
    PULL_FAILS(RM_E_CANCELLED, run); /* outputs are discarded */
    rm_run_free(run);

    run = open_one("PassThrough", "{}", 1);
    rm_run_cancel(run);
    PULL_FAILS(RM_E_CANCELLED, run);
    rm_run_free(run);
}

static void a_run_is_freed_at_any_time(void) {
    rm_run_free(open_waiting());
    rm_run *run = open_waiting();
    rm_output output;
    push(run, "1", 0);
    AGAIN(pull(run, 5, &output));
    rm_run_free(run); /* in mid-work */

    run = open_waiting();
    push(run, "1", 0);
    pthread_t waiting = begin(wait_until_cancelled, run);
    until_busy(run);
    while (!says(state_of(run), "\"state\":\"running\""))
        pause_ms(1);
    rm_run_free(run); /* while another thread waits for it */
    join(waiting);

    run = open_one("TestSpin", "{\"when\": \"never\"}", 0);
    push(run, "1", 0);
    OK(rm_run_end(run, &error));
    rm_run_free(run);
}

static void what_is_in_flight_is_discarded(void) {
    rm_run *run = open_one("Buffer", "{\"buffer_size\": 2}", 1);
    push(run, "1", 0);
    push(run, "2", 1);
    AGAIN(try_push(run, "3", NULL, 0, NULL, &error));
    OK(rm_run_interrupt(run, &error));
    rm_output output;
    AGAIN(pull(run, 0, &output));
    push(run, "3", 2); /* there is room, and the count goes on */
    push(run, "4", 3);
    pulls(run, 0, 3, "[3,4]");
    OK(rm_run_end(run, &error));
    has_ended(run);
    rm_run_free(run);

    run = open_waiting();
    push(run, "1", 0);
    OK(rm_run_interrupt(run, &error)); /* a node that waits */
    OK(rm_run_end(run, &error));
    has_ended(run);
    rm_run_free(run);
}

static void a_node_gets_other_parameters(void) {
    rm_run *run = open_one("Multiply", "{\"factor\": 2}", 0);
    push(run, "1", 0);
    OK(set(run, "n", "{\"factor\": 10}"));
    push(run, "1", 1);
    OK(set(run, "n", "{}"));
    FAILS_WITH(RM_E_MANIFEST, "/factor", set(run, "n", "{\"factor\": \"x\"}"));
    FAILS(RM_E_MANIFEST, set(run, "n", "{\"other\": 1}"));
    FAILS_WITH(RM_E_ARGUMENT, "\\\"m\\\"", set(run, "m", "{\"factor\": 3}"));
    const char *no_objects[] = {"", "[]", "1", "{", "{} {}"};
    for (size_t i = 0; i < sizeof no_objects / sizeof *no_objects; i++)
        FAILS(RM_E_JSON, set(run, "n", no_objects[i]));
    FAILS(RM_E_UTF8, set(run, "n", "{\"\377\": 1}"));
    FAILS(RM_E_UTF8, set(run, "\377", "{}"));
    push(run, "2", 2);
    OK(rm_run_end(run, &error));
    pulls(run, 0, 0, "2");
    pulls(run, 0, 1, "10");
    pulls(run, 0, 2, "20");
    has_ended(run);
    rm_run_free(run);
}

static void a_run_says_what_it_is_at(void) {
    rm_run *run = open_one("PassThrough", "{}", 0);
    push(run, "1", 0);
    rm_data *state = state_of(run);
    const char *text = view_of(state).json;
    const char *wanted =
        "{\"phase\":\"work\",\"items\":1,\"queued\":0,\"inside\":1,\"outputs\":1,\"stages\":[{"
        "\"nodes\":[\"n\"],\"state\":\"waiting\",\"for\":\"an item\",\"node\":null,"
        "\"item\":null,\"since_us\":";
    CHECK(strncmp(text, wanted, strlen(wanted)) == 0);
    rm_data_free(state);
    OK(rm_run_end(run, &error));
    CHECK(says(state_of(run), "\"phase\":\"over\""));
    rm_run_free(run);

    run = open_hosted("", 0);
    rm_call call = place_for(run);
    OK(exchange(&call, SILENCE));
    CHECK(says(state_of(run), "\"phase\":\"initialize\""));
    CHECK(says(state_of(run), "\"state\":\"waiting\",\"for\":\"the host at \\\"h\\\"\""));
    rm_run_free(run);
}

static void *push_a_thousand(void *run) {
    rm_error *own = NULL;
    char item[20];
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t number = 0;
        snprintf(item, sizeof item, "%d", (int)i);
        CHECK(try_push(run, item, NULL, -1, &number, &own) == RM_OK && number == i);
    }
    CHECK(rm_run_end(run, &own) == RM_OK);
    return NULL;
}

/* What a thread pushes comes out here, doubled and in order. */
static void doubles_a_thousand(rm_run *run, uint32_t sink) {
    pthread_t thread = begin(push_a_thousand, run);
    char wanted[20];
    for (int64_t i = 0; i < 1000; i++) {
        snprintf(wanted, sizeof wanted, "%d", 2 * (int)i);
        pulls(run, sink, i, wanted);
    }
    has_ended(run);
    join(thread);
    rm_run_free(run);
}

static void threads_push_and_pull(void) {
    doubles_a_thousand(open_one("Multiply", "{\"factor\": 2}", 8), 0);
}

static void workers_keep_the_order(void) {
    doubles_a_thousand(
        opened(
            pipeline_of("{\"id\": \"a\", \"node_type\": \"Delay\", \"params\": {\"seconds\": 0}},"
                        "{\"id\": \"b\", \"node_type\": \"Multiply\", \"params\": {\"factor\": "
                        "2}},"
                        "{\"id\": \"c\", \"node_type\": \"Delay\", \"params\": {\"seconds\": 0}}",
                        "{\"from\": \"a\", \"to\": \"b\"}, {\"from\": \"b\", \"to\": \"c\"}", NULL),
            8, -1),
        2);
}

static void a_heavy_graph_is_fed(void) {
    static const float silence[1024];
    static const int64_t shape[2] = {1024, 1};
    rm_run *run =
        opened(pipeline_of("{\"id\": \"a\", \"node_type\": \"AudioResample\", \"params\": "
                           "{\"target_rate\": 16000}},"
                           "{\"id\": \"b\", \"node_type\": \"AudioLevel\"},"
                           "{\"id\": \"c\", \"node_type\": \"AudioChunker\"}",
                           "{\"from\": \"a\", \"to\": \"b\"}, {\"from\": \"a\", \"to\": "
                           "\"c\"}",
                           NULL),
               4, -1);
    rm_view view = {.struct_size = sizeof view, .kind = RM_AUDIO, .pts_us = RM_NO_PTS};
    view.data = (void *)silence;
    view.byte_len = sizeof silence;
    view.shape = shape;
    view.ndim = 2;
    view.device_type = 1;
    view.dtype_code = 2;
    view.dtype_bits = 32;
    view.dtype_lanes = 1;
    view.json = "{\"sample_rate\": 16000}";
    view.json_len = strlen(view.json);
    rm_data *audio = NULL;
    OK(rm_data_new(&view, NULL, NULL, &audio, &error));
    int64_t last[3] = {-1, -1, -1}, levels = 0, chunks = 0;
    rm_output output;
    rm_status status = RM_OK;
    for (int pushed = 0; status != RM_END;) {
        if (pushed < 20) {
            status = rm_run_push(run, audio, NO_ONE, 0, NULL, &error);
            CHECK(status == RM_OK || status == RM_AGAIN);
            pushed += status == RM_OK;
            if (pushed == 20) OK(rm_run_end(run, &error));
        }
        while ((status = pull(run, pushed == 20 || status == RM_AGAIN ? -1 : 0, &output)) ==
               RM_OK) {
            CHECK(output.item == -1 || output.item >= last[output.node]);
            last[output.node] = output.item;
            *(output.node == 1 ? &levels : &chunks) += 1;
            rm_data_free(output.data);
        }
        CHECK(error == NULL && (status == RM_AGAIN || (status == RM_END && pushed == 20)));
    }
    CHECK(levels == 20 && chunks == 40); /* of 512 samples */
    rm_data_free(audio);
    rm_run_free(run);
}

/* Reads the descriptor empty, once it is readable. */
static void until_readable(int fd) {
    struct pollfd it = {.fd = fd, .events = POLLIN};
    CHECK(poll(&it, 1, 60000) == 1 && it.revents == POLLIN);
    char bytes[16];
    while (read(fd, bytes, sizeof bytes) > 0) {
    }
}

static void a_descriptor_tells_of_what_is_there(void) {
    rm_run *run = open_one("Delay", "{\"seconds\": 0.01}", 1);
    push(run, "1", 0);
    int fd = (int)rm_run_fd(run);
    CHECK(fd >= 0 && rm_run_fd(run) == fd);
    until_readable(fd); /* at first */
    rm_output output;
    rm_status status;
    while ((status = pull(run, 0, &output)) == RM_AGAIN)
        until_readable(fd); /* an output, which a thread of the library's makes */
    OK(status);
    CHECK(gives(output.data, "1"));
    OK(rm_run_end(run, &error));
    while ((status = pull(run, 0, &output)) == RM_AGAIN)
        until_readable(fd); /* the end */
    CHECK(status == RM_END);
    rm_run_free(run);

    run = open_waiting();
    fd = (int)rm_run_fd(run);
    until_readable(fd);
    AGAIN(pull(run, 0, &output));
    pthread_t thread = begin(cancel_it, run);
    until_readable(fd);
    join(thread);
    PULL_FAILS(RM_E_CANCELLED, run);
    rm_run_free(run);
}

static void a_run_with_its_whole_input_is_not_fed(void) {
    const char *types[] = {"PassThrough", "Delay"}; /* one stage, and one with a thread */
    for (int i = 0; i < 2; i++) {
        rm_pipeline *pipeline = one_node(NULL, types[i], i ? "{\"seconds\": 0}" : "{}");
        rm_data *input = json("[1]"), *result = NULL;
        rm_run *run = NULL;
        OK(rm_run_start(pipeline, input, -1, &run, &error));
        FAILS(RM_E_CLOSED, try_push(run, "1", NULL, -1, NULL, &error));
        PULL_FAILS(RM_E_CLOSED, run);
        FAILS(RM_E_CLOSED, rm_run_interrupt(run, &error));
        FAILS(RM_E_CLOSED, set(run, "n", "{}"));
        rm_call call = place_for(run);
        FAILS(RM_E_CLOSED, exchange(&call, SILENCE));
        FAILS(RM_E_CLOSED, exchange(&call, SAY("[" N1 "i" N1, NONE)));
        OK(rm_run_end(run, &error)); /* which it has */
        CHECK(says(state_of(run), "\"items\":1"));
        OK(rm_run_wait(run, -1, &result, NULL, &error));
        CHECK(gives(result, "[1]"));
        PULL_FAILS(RM_E_CLOSED, run);
        rm_run_free(run);
        rm_data_free(input);
        rm_pipeline_free(pipeline);
    }
}

#define RESULT(call, outputs)                                                                      \
    CHECK(!(call).given && (call).len > sizeof("(" N2 outputs) &&                                  \
          memcmp((call).text, BYTES("(" N2 outputs "s")) == 0)

static void a_batch_gives_tasks_as_it_begins_and_its_result_as_it_ends(void) {
    const char *types = "[{\"name\": \"Mine\", \"tasks\": []}]";
    for (int fits = 0; fits < 2; fits++) {
        rm_pipeline *pipeline = pipeline_of("{\"id\": \"h\", \"node_type\": \"Mine\"}", "", types);
        rm_call batch = place_for(NULL);
        batch.pipeline = pipeline;
        batch.kind = RM_JSON;
        batch.error = NULL;
        batch.held = NULL;
        batch.buffer_len = fits ? sizeof room : 10;
        CHECK(rm_call_run(&batch, TEXT("[7, 7]")) == RM_AGAIN && batch.run);
        rm_call call = place_for(batch.run);
        call.most = 0;
        call.want = RM_WANT_TASK | RM_WANT_RESULT;
#define TASKS                                                                                      \
    "[" N10 "i" N0 "i" N0 "i" N0 "i" N1 "i" N7 "i" N0 "i\000\002\000\000i" N1 "i" N1 "i" N7
        if (fits) {
            GIVES(batch, NONE, TASKS);
        } else {
            GIVES_NOTHING(batch);
            OK(exchange(&call, SILENCE)); /* they come with the first exchange */
            GIVES(call, NONE, TASKS);
        }
        call.slice_us = 0;
        AGAIN(exchange(&call, SAY(NONE, "[" N3 "i" N0 "i" N0 "[" N1 "i" N9)));
        GIVES_NOTHING(call); /* the other one is out */
        call.slice_us = -1;
        CHECK(exchange(&call, SAY(NONE, "[" N3 "i" N0 "i\000\002\000\000[" N1 "i" N4)) == RM_END);
        RESULT(call, "[" N2 "i" N9 "i" N4);
        FAILS(RM_E_CLOSED, exchange(&call, SILENCE)); /* once */
        rm_call_clear(&batch);
        rm_pipeline_free(pipeline);
    }

    /* There may be nothing that the host has to do. */
    rm_pipeline *pipeline = one_node(NULL, "PassThrough", "{}");
    rm_data *input = json("[1]");
    rm_run *run = NULL;
    OK(rm_run_start(pipeline, input, -1, &run, &error));
    rm_call call = place_for(run);
    call.most = 0;
    call.want = RM_WANT_RESULT;
    CHECK(exchange(&call, SILENCE) == RM_END);
    RESULT(call, "[" N1 "i" N1);
    rm_run_free(run);
    rm_data_free(input);
    rm_pipeline_free(pipeline);
}

static void a_run_is_booked_until_it_is_over(void) {
    rm_runtime *runtime = NULL;
    OK(rm_runtime_new(NULL, 0, &runtime, &error));
    rm_pipeline *pipeline = one_node(runtime, "PassThrough", "{}");
    rm_run *complete = NULL, *standing = NULL, *batch = NULL, *refused = NULL;
    OK(rm_run_open(pipeline, 0, -1, &complete, &error));
    OK(rm_run_end(complete, &error));
    has_ended(complete);
    OK(rm_run_open(pipeline, 0, -1, &standing, &error));
    AGAIN(rm_runtime_close(runtime, 0, &error)); /* one is left */
    PULL_FAILS(RM_E_CANCELLED, standing);
    OK(rm_runtime_close(runtime, 0, &error));
    FAILS(RM_E_CLOSED, rm_run_open(pipeline, 0, -1, &refused, &error));
    CHECK(refused == NULL);
    rm_run_free(complete);
    rm_run_free(standing);
    rm_pipeline_free(pipeline);
    rm_runtime_free(runtime);

    OK(rm_runtime_new(NULL, 0, &runtime, &error));
    pipeline = one_node(runtime, "PassThrough", "{}");
    OK(rm_run_start(pipeline, NULL, -1, &batch, &error));
    PULL_FAILS(RM_E_CLOSED, batch); /* which does not end it */
    AGAIN(rm_runtime_close(runtime, 0, &error));
    rm_run_free(batch);
    OK(rm_runtime_close(runtime, 0, &error));
    rm_pipeline_free(pipeline);
    rm_runtime_free(runtime);
}

static void an_exchange_takes_items_and_gives_outputs(void) {
    rm_run *run = open_one("Multiply", "{\"factor\": 2}", 3);
    rm_call call = place_for(run);
    OK(exchange(&call, SILENCE)); /* nothing was wanted */
    GIVES_NOTHING(call);
    CHECK(call.accepted == 0);
    OK(exchange(&call, SAY("[" N2 "i" N1 "i" N2, NONE)));
    CHECK(call.accepted == 2);
    GIVES(call, "[" N6 "i" N0 "i" N0 "i" N2 "i" N1 "i" N0 "i" N4, NONE);

    call.most = 2; /* as far as there is room, and no more than is asked for */
    AGAIN(exchange(&call, SAY("[" N4 "i" N1 "i" N2 "i" N3 "i" N4, NONE)));
    CHECK(call.accepted == 3);
    GIVES(call, "[" N6 "i" N2 "i" N0 "i" N2 "i" N3 "i" N0 "i" N4, NONE);
    call.want = RM_WANT_OUTPUT;
    OK(exchange(&call, SILENCE));
    GIVES(call, "[" N3 "i" N4 "i" N0 "i" N6, NONE);
    call.slice_us = 0;
    AGAIN(exchange(&call, SILENCE));
    call.slice_us = 2000;
    AGAIN(exchange(&call, SILENCE));
    GIVES_NOTHING(call);

    call.want = RM_WANT_ROOM;
    call.most = 0;
    AGAIN(exchange(&call, SAY("[" N3 "i" N1 "i" N1 "i" N1, NONE))); /* there was, and is not */
    CHECK(call.accepted == 3);
    AGAIN(exchange(&call, SILENCE));
    GIVES_NOTHING(call);
    call.most = 1;
    call.slice_us = -1;
    OK(exchange(&call, SILENCE)); /* an output less is room */
    CHECK(call.len > 0);

    call.most = 100;
    call.want = RM_WANT_END;
    OK(rm_run_end(run, &error));
    OK(exchange(&call, SILENCE)); /* outputs come before the end */
    CHECK(call.len > 0);
    for (int times = 0; times < 2; times++) {
        CHECK(exchange(&call, SILENCE) == RM_END && error == NULL);
        GIVES_NOTHING(call);
    }
    rm_run_free(run);

    run = open_two_sources(); /* to one of them */
    call = place_for(run);
    OK(exchange(&call, BYTES("[" N3 "[" N1 "i" N1 NONE "u" N1 "b")));
    GIVES(call, "[" N3 "i" N0 "i" N2 "i" N10, NONE);
    FAILS(RM_E_ARGUMENT, exchange(&call, BYTES("[" N3 "[" N1 "i" N1 NONE "u" N1 "c")));
    CHECK(call.accepted == 0);
    rm_run_free(run);

    run = open_one("Add", "{\"addend\": 0}", 0); /* a failure comes after the outputs before it */
    call = place_for(run);
    call.want = RM_WANT_TASK;
    OK(exchange(&call, SAY("[" N2 "i" N1 "N", NONE)));
    GIVES(call, "[" N3 "i" N0 "i" N0 "i" N1, NONE);
    FAILS_WITH(RM_E_NODE, "\"item\":1", exchange(&call, SILENCE));
    FAILS_WITH(RM_E_NODE, "\"item\":1", exchange(&call, SAY("[" N1 "i" N1, NONE)));
    CHECK(call.accepted == 0);
    rm_run_free(run);

    run = open_one("Buffer", "{\"buffer_size\": 2}", 0); /* what is flushed has item -1 */
    call = place_for(run);
    OK(exchange(&call, SAY("[" N1 "i" N1, NONE)));
    GIVES_NOTHING(call);
    OK(rm_run_end(run, &error));
    call.want = RM_WANT_OUTPUT;
    OK(exchange(&call, SILENCE));
    GIVES(call, "[" N3 "i" MINUS1 "i" N0 "[" N1 "i" N1, NONE);
    rm_run_free(run);
}

static void floats_are_items_like_others(void) {
    rm_run *run = open_one("PassThrough", "{}", 0);
    rm_call call = place_for(run);
    OK(exchange(&call, SAY("[" N2 "g\000\000\000\000\000\000\370\077"
                           "g\000\000\000\000\000\000\370\077",
                           NONE)));
    CHECK(call.accepted == 2);
    rm_call_clear(&call);
    rm_run_free(run);
}

static void parts_are_copied(void) {
    rm_run *run = open_one("PassThrough", "{}", 0);
    static float numbers[6] = {0, 1, 2, 3, 4, 5};
    static const int64_t shape[1] = {6};
    rm_view part = {.struct_size = sizeof part, .kind = RM_TENSOR, .pts_us = RM_NO_PTS};
    part.data = numbers;
    part.byte_len = sizeof numbers;
    part.shape = shape;
    part.ndim = 1;
    part.device_type = 1;
    part.dtype_code = 2;
    part.dtype_bits = 32;
    part.dtype_lanes = 1;
    rm_call call = place_for(run);
    call.parts = &part;
    call.part_count = 1;
    call.most = 0;
    OK(exchange(&call, SAY("[" N2 PART "i" N0 "0" PART "i" N0 "0", NONE)));
    CHECK(call.accepted == 2);
    memset(numbers, 0, sizeof numbers); /* the host's again */
    memset(&part, 0, sizeof part);
    call.part_count = 0;
    call.most = 1;
    OK(exchange(&call, SILENCE));
    CHECK(call.given == (RM_HELD | RM_ESCAPED) && call.given_count == 1 && call.text != room);
    CHECK(is_text(&call, BYTES("[" N2 "[" N3 "i" N0 "i" N0 PART "i" N0 "0" NONE)));
    const rm_view *got = call.given_parts;
    CHECK(got->struct_size == sizeof *got && got->kind == RM_TENSOR && got->shape[0] == 6);
    CHECK(got->data != numbers && ((float *)got->data)[5] == 5);
    rm_data *held = call.held;
    OK(exchange(&call, SILENCE)); /* what is held stays when the place is used again */
    CHECK(call.held && call.held != held && got->shape[0] == 6 && ((float *)got->data)[5] == 5);
    rm_run_free(run); /* and when the run is gone */
    CHECK(((float *)got->data)[4] == 4 && ((float *)call.given_parts->data)[3] == 3);
    rm_data_free(held);
    rm_call_clear(&call);
    CHECK(call.held == NULL && call.session == run);

    numbers[0] = 1;
    part = (rm_view){.struct_size = 8};
    run = open_one("PassThrough", "{}", 0);
    call = place_for(run);
    call.parts = &part;
    call.part_count = 1;
    FAILS(RM_E_ARGUMENT, exchange(&call, SAY(NONE, NONE)));
    call.parts = (const rm_view *)((const char *)&part + 1);
    FAILS(RM_E_ARGUMENT, exchange(&call, SAY(NONE, NONE)));
    rm_run_free(run);
}

static void an_item_goes_as_it_is(void) {
    rm_run *run = open_one("PassThrough", "{}", 3);
    rm_call call = place_for(run);
    call.flags = RM_ITEM;
    OK(exchange(&call, BYTES("[" N1 "i" N7)));
    CHECK(call.accepted == 1);
    GIVES(call, "[" N3 "i" N0 "i" N0 "[" N1 "i" N7, NONE);
    FAILS(RM_E_ARGUMENT, exchange(&call, BYTES("i" N1 "N")));
    FAILS(RM_E_ARGUMENT, exchange(&call, BYTES("[" N2 "N")));
    FAILS(RM_E_UTF8, exchange(&call, BYTES("u" N1 "\377")));
    CHECK(call.accepted == 0);
    OK(exchange(&call, SILENCE)); /* without a text there is none */
    GIVES_NOTHING(call);
    call.most = 0;
    for (int times = 0; times < 3; times++)
        OK(exchange(&call, BYTES("N")));
    AGAIN(exchange(&call, BYTES("N")));
    CHECK(call.accepted == 0);
    rm_run_free(run);
}

static rm_view floats(float *numbers, size_t count, const int64_t *shape, uint32_t ndim) {
    return (rm_view){.struct_size = sizeof(rm_view),
                     .kind = RM_TENSOR,
                     .data = numbers,
                     .byte_len = count * sizeof *numbers,
                     .shape = shape,
                     .ndim = ndim,
                     .dtype_code = 2,
                     .dtype_bits = 32,
                     .dtype_lanes = 1};
}

static void small_parts_stand_in_the_text(void) {
    rm_run *run = open_one("PassThrough", "{}", 0);
    static float numbers[2] = {0, 2};
    static char many[(16 << 10) + 1];
    static const int64_t shapes[2] = {1, 2};
    rm_view parts[4];
    for (int i = 0; i < 4; i++)
        parts[i] = floats(numbers, 2, shapes, 2);
    parts[1].shape = shapes + 1;
    parts[1].ndim = 1;
    parts[2].kind = RM_BYTES;
    parts[2].data = "abc";
    parts[2].byte_len = 3;
    parts[3].kind = RM_BYTES;
    parts[3].data = many;
    parts[3].byte_len = sizeof many;
    rm_call call = place_for(run);
    call.flags = RM_INLINE;
    call.parts = parts;
    call.part_count = 3;
    OK(exchange(&call, SILENCE)); /* without a text the parts are the items */
    CHECK(call.accepted == 3 && call.given == RM_ESCAPED && call.given_count == 0 && !call.held);
    CHECK(is_text(&call, BYTES("[" N2 "[" N9 "i" N0 "i" N0 "(" N3 "i\040\002\000\000s" N8
                               "\000\000\000\000\000\000\000\100(" N2 "i" N1 "i" N2 "i" N1 "i" N0
                               "(" N2 "i\040\002\000\000s" N8 "\000\000\000\000\000\000\000\100"
                               "i" N2 "i" N0 "s" N3 "abc" NONE)));
    call.parts = parts + 3;
    call.part_count = 1;
    OK(exchange(&call, SILENCE)); /* a large one does not */
    CHECK(call.accepted == 1 && call.given == (RM_ESCAPED | RM_HELD) && call.given_count == 1);
    CHECK(call.given_parts->byte_len == sizeof many);
    rm_call_clear(&call);
    parts[3].byte_len--;
    OK(exchange(&call, SILENCE)); /* this one just does, though there is no room for it */
    CHECK(call.given == RM_HELD && call.given_count == 0 && call.len > sizeof many);
    rm_call_clear(&call);
    rm_run_free(run);
}

static void rows_are_items_and_outputs(void) {
    rm_run *run = open_one("Multiply", "{\"factor\": 2}", 8);
    static float numbers[6] = {0, 1, 2, 3, 4, 5};
    static const int64_t shape[3] = {3, 2, 0};
    rm_view parts[2];
    for (int i = 0; i < 2; i++)
        parts[i] = floats(numbers, 6, shape, 2);
    rm_call call = place_for(run);
    call.flags = RM_INLINE | RM_ROWS;
    call.parts = parts;
    call.part_count = 1;
    OK(exchange(&call, SILENCE));
    CHECK(call.accepted == 3 && call.number == 0);
    CHECK(call.given == (RM_ESCAPED | RM_ROWS) && call.given_count == 0);
    CHECK(is_text(&call, BYTES("[" N3 "[" N3 "i" N0 "i" N1 "i" N2 "[" N3 "i" N0 "i" N0 "i" N0 "(" N3
                               "i\040\002\000\000s\030\000\000\000"
                               "\000\000\000\000\000\000\000\100\000\000\200\100\000\000\300\100"
                               "\000\000\000\101\000\000\040\101(" N2 "i" N3 "i" N2)));
    CHECK(numbers[5] == 5); /* what is the host's is not written to */

    /* One output is none of several, and those that differ are not alike. */
    static const int64_t one[2] = {1, 6}, flat[1] = {6};
    parts[0].shape = one;
    OK(exchange(&call, SILENCE));
    CHECK(call.accepted == 1 && call.number == 3 && call.given == RM_ESCAPED);
    call.part_count = 2;
    OK(exchange(&call, SILENCE));
    CHECK(call.accepted == 4 && call.number == 4 && call.given == RM_ESCAPED);
    /* Rows of one number each are none either. */
    parts[0].shape = flat;
    parts[0].ndim = 1;
    call.part_count = 1;
    OK(exchange(&call, SILENCE));
    CHECK(call.accepted == 6 && call.given == RM_ESCAPED);

    call.most = 0;
    parts[0].shape = shape;
    parts[0].ndim = 2;
    call.part_count = 2;
    OK(exchange(&call, SILENCE));
    AGAIN(exchange(&call, SILENCE)); /* as many as there is room for */
    CHECK(call.accepted == 2);

    parts[0].ndim = 0;
    parts[0].byte_len = sizeof *numbers;
    call.part_count = 1;
    FAILS(RM_E_ARGUMENT, exchange(&call, SILENCE));
    CHECK(call.accepted == 0);
    parts[0].ndim = 3;
    parts[0].byte_len = 0;
    FAILS(RM_E_ARGUMENT, exchange(&call, SILENCE));
    parts[0].kind = RM_BYTES;
    FAILS(RM_E_ARGUMENT, exchange(&call, SILENCE));
    rm_run_free(run);
}

static void what_has_no_room_is_held(void) {
    rm_run *run = open_one("PassThrough", "{}", 0);
    for (int times = 0; times < 2; times++) {
        rm_call call = place_for(run);
        call.buffer_len = 5;
        if (times) call.buffer = NULL;
        OK(exchange(&call, SAY("[" N1 "u" N3 "abc", NONE)));
        CHECK(call.given == RM_HELD && call.held && call.given_count == 0 && call.text != room);
        char item[] = "[" N2 "[" N3 "i" N0 "i" N0 "u" N3 "abc" NONE;
        item[11] = (char)times;
        CHECK(is_text(&call, item, sizeof item - 1));
        rm_call_clear(&call);
    }
    rm_run_free(run);
}

static void a_part_with_a_tag_is_lent(void) {
    rm_run *run = open_one("PassThrough", "{}", 2);
    static float numbers[6] = {0, 1, 2, 3, 4, 5};
    static const int64_t shape[1] = {6}, backwards[1] = {-1};
    rm_view part = {.struct_size = sizeof part, .kind = RM_TENSOR, .pts_us = RM_NO_PTS};
    part.data = numbers;
    part.byte_len = sizeof numbers;
    part.shape = shape;
    part.ndim = 1;
    part.dtype_code = 2;
    part.dtype_bits = 32;
    part.dtype_lanes = 1;
    part.tag = 7;
    uint32_t released[2] = {0, 0};
    rm_call call = place_for(run);
    call.parts = &part;
    call.part_count = 1;
    call.most = 0;
    call.released = released;
    call.released_len = 2;
    OK(exchange(&call, SAY("[" N1 PART "i" N0 "0", NONE)));
    CHECK(call.accepted == 1 && call.released_count == 0);
    call.part_count = 0;
    call.most = 1;
    /* It comes out as it went in: it is known by its tag, and not described. */
    OK(exchange(&call, SILENCE));
    CHECK(call.given == RM_ESCAPED && call.given_count == 0 && call.held == NULL);
    CHECK(is_text(&call, BYTES("[" N2 "[" N3 "i" N0 "i" N0 PART "i"
                               "\371\377\377\377"
                               "0" NONE)));
    CHECK(call.released_count == 1 && released[0] == 7);

    /* What had to be copied is the host's at once, and is another one when it comes out. */
    part.strides = backwards;
    part.data = numbers + 5;
    part.tag = 8;
    call.part_count = 1;
    call.most = 0;
    OK(exchange(&call, SAY("[" N1 PART "i" N0 "0", NONE)));
    CHECK(call.accepted == 1 && call.released_count == 1 && released[0] == 8);
    call.part_count = 0;
    call.most = 1;
    OK(exchange(&call, SILENCE));
    CHECK(call.given_count == 1 && ((float *)call.given_parts->data)[0] == 5);
    CHECK(call.given_parts->tag == 0 && call.released_count == 0);
    rm_call_clear(&call);

    /* What is not used any more is told as far as there is room. */
    part = (rm_view){.struct_size = sizeof part, .kind = RM_TENSOR, .data = numbers, .ndim = 1};
    part.byte_len = sizeof numbers;
    part.shape = shape;
    part.dtype_code = 2;
    part.dtype_bits = 32;
    part.dtype_lanes = 1;
    rm_view three[3] = {part, part, part};
    for (uint32_t tag = 0; tag < 3; tag++)
        three[tag].tag = 10 + tag;
    call.parts = three;
    call.part_count = 3;
    call.most = 0;
    OK(exchange(&call, SAY("[" N1 "[" N3 PART "i" N0 "0" PART "i" N1 "0" PART "i" N2 "0", NONE)));
    call.part_count = 0;
    call.most = 1;
    OK(exchange(&call, SILENCE));
    CHECK(call.given_count == 0 && call.released_count == 2);
    OK(exchange(&call, SILENCE));
    CHECK(call.released_count == 1);
    rm_run_free(run);

    run = open_one("PassThrough", "{}", 2);
    call = place_for(run);
    part.tag = 0x80000000u;
    call.parts = &part;
    call.part_count = 1;
    FAILS_WITH(RM_E_ARGUMENT, "tag", exchange(&call, SAY("[" N1 PART "i" N0 "0", NONE)));
    rm_run_free(run);

    /* A node that changes it makes another one of it, though nobody else reads it. */
    run = open_one("Multiply", "{\"factor\": 2}", 0);
    call = place_for(run);
    call.parts = three;
    call.part_count = 1;
    call.released = released;
    call.released_len = 2;
    OK(exchange(&call, SAY("[" N1 PART "i" N0 "0", NONE)));
    CHECK(call.given_count == 1 && ((float *)call.given_parts->data)[5] == 10 && numbers[5] == 5);
    CHECK(call.released_count == 1 && released[0] == 10);
    rm_call_clear(&call);
    rm_run_free(run);
}

static void a_text_that_is_wrong_is_refused(void) {
    rm_run *run = open_hosted("", 0);
    rm_call call = place_for(run);
#define BAD(text) FAILS(RM_E_ARGUMENT, exchange(&call, BYTES(text)))
    BAD("N");
    BAD("[" N3);
    BAD("[" N3 NONE NONE);
    BAD("[" N2 NONE NONE);
    BAD("[" N4 NONE NONE "NN");
    BAD("[" N3 NONE NONE "NN");
    BAD("[" N3 "N" NONE "N");
    BAD("[" N3 NONE "NN");
    BAD("[" N3 NONE NONE "i" N1);
    BAD("[" N3 NONE "[" N1 "i" N0 "N");
    BAD("[" N3 NONE "[" N2 "i" N0 "i" N0 "N");
    BAD("[" N3 NONE "[" N3 "i" N0 "i" N0 "i" N0 "N");
    BAD("[" N3 NONE "[" N3 "N"
        "i" N0 NONE "N");
    BAD("[" N3 NONE "[" N3 "i" N0 "N" NONE "N");
    BAD("[" N3 NONE "[" N3 "i" N1 "i" N0 NONE "N"); /* there is no such node */
    BAD("[" N3 NONE "[" N3 "i" MINUS1 "i" N0 NONE "N");
    BAD("[" N3 "[" N1 PART "i" N0 "0" NONE "N"); /* no such part */
    FAILS(RM_E_UTF8, exchange(&call, BYTES("[" N3 "[" N1 "u" N1 "\377" NONE "N")));
    char deep[800] = "[" N3 "[" N1;
    size_t len = 10;
    for (int level = 0; level < 101; level++, len += 5)
        memcpy(deep + len, "[" N1, 5);
    memcpy(deep + len, "N" NONE "N", 7);
    FAILS(RM_E_LIMIT, exchange(&call, deep, len + 7));
    memmove(deep + 10, deep + 15, len - 8);
    call.most_tasks = 0;
    OK(exchange(&call, deep, len + 2)); /* at the limit */
    CHECK(call.accepted == 1);
    rm_run_free(run);

    run = open_one("PassThrough", "{}", 0);
    call = place_for(run);
    BAD("[" N3 NONE "[" N3 "i" N0 "i" N0 NONE "N"); /* it is not the host's */
    rm_run_free(run);
}

/* A task that came without outputs. Those before it have small numbers as their values. */
typedef struct {
    int32_t node, id, item, kind;
    const char *value;
} task;

static task task_at(const rm_call *call, int place) {
    const char *at = call->text + 15 + 25 * place;
    CHECK(call->text && call->len >= 15 + 25 * (size_t)place + 21);
    CHECK(memcmp(call->text, BYTES("[" N2 NONE "[")) == 0);
    task it = {.value = at + 20};
    int32_t *numbers[] = {&it.node, &it.id, &it.item, &it.kind};
    for (int i = 0; i < 4; i++, at += 5) {
        CHECK(*at == 'i');
        memcpy(numbers[i], at + 1, 4);
    }
    return it;
}

/* The next task is of this kind. */
static task next_task(rm_call *call, int32_t kind) {
    call->want = RM_WANT_TASK;
    call->slice_us = -1;
    call->most_tasks = 1; /* a host that keeps the order may have more */
    OK(exchange(call, SILENCE));
    task it = task_at(call, 0);
    if (it.kind != kind) fprintf(stderr, "a task of kind %d, not %d\n", it.kind, kind);
    CHECK(it.kind == kind && memcmp(call->text + 11, N5, 4) == 0);
    return it;
}

/* Answers a task; then the call waits for what it wants. */
static rm_status answered(rm_call *call, task it, const char *values, size_t len) {
    char text[300] = "[" N3 NONE "[" N3 "i....i....";
    memcpy(text + 16, &it.node, 4);
    memcpy(text + 21, &it.id, 4);
    memcpy(text + 25, values, len);
    text[25 + len] = 'N';
    return exchange(call, text, 26 + len);
}

/* Answers it with no values, and asks for nothing. */
static void done(rm_call *call, task it) {
    call->want = call->most = call->most_tasks = 0;
    OK(answered(call, it, BYTES(NONE)));
    call->most = call->most_tasks = 100;
}

static void initialized(rm_call *call) {
    task it = next_task(call, RM_TASK_INITIALIZE);
    CHECK(it.node == 0 && it.item == -1 && memcmp(it.value, BYTES("{0")) == 0);
    done(call, it);
}

static void cleaned_up(rm_call *call) {
    done(call, next_task(call, RM_TASK_CLEANUP));
}

static void a_node_of_the_hosts_lives_as_others_do(void) {
    rm_run *run = open_hosted(", \"params\": {\"a\": [1, {\"b\": \"c\"}]}", 0);
    rm_call call = place_for(run);
    task it = next_task(&call, RM_TASK_INITIALIZE);
    CHECK(it.node == 0 && it.item == -1);
    CHECK(memcmp(it.value, BYTES("{u" N1 "a[" N2 "i" N1 "{u" N1 "bu" N1 "c00")) == 0);
    push(run, "5", 0);
    call.slice_us = 0;
    AGAIN(exchange(&call, SILENCE)); /* not before it is initialized */
    GIVES_NOTHING(call);
    done(&call, it);

    it = next_task(&call, RM_TASK_PROCESS);
    CHECK(it.node == 0 && it.item == 0 && memcmp(it.value, BYTES("i" N5)) == 0);
    call.want = RM_WANT_OUTPUT;
    OK(answered(&call, it, BYTES("[" N2 "i" N6 "u" N1 "x"))); /* two values */
    GIVES(call, "[" N6 "i" N0 "i" N0 "i" N6 "i" N0 "i" N0 "u" N1 "x", NONE);

    OK(set(run, "h", "{\"d\": 4}"));
    push(run, "7", 1);
    it = next_task(&call, RM_TASK_SET); /* what it had stays */
    CHECK(memcmp(it.value, BYTES("{u" N1 "a[" N2 "i" N1 "{u" N1 "bu" N1 "c0u" N1 "di" N4 "0")) ==
          0);
    done(&call, it);
    it = next_task(&call, RM_TASK_PROCESS);
    CHECK(it.item == 1 && memcmp(it.value, BYTES("i" N7)) == 0);
    done(&call, it); /* and gives nothing */

    OK(rm_run_end(run, &error));
    it = next_task(&call, RM_TASK_FLUSH);
    CHECK(it.item == -1 && *it.value == 'N');
    call.want = RM_WANT_OUTPUT;
    call.most_tasks = 0;
    OK(answered(&call, it, BYTES("[" N1 "T")));
    GIVES(call, "[" N3 "i" MINUS1 "i" N0 "T", NONE);
    call.most_tasks = 100;
    it = next_task(&call, RM_TASK_CLEANUP);
    call.want = RM_WANT_END;
    CHECK(answered(&call, it, BYTES(NONE)) == RM_END && error == NULL);
    GIVES_NOTHING(call);
    rm_data *report = NULL;
    OK(rm_run_report(run, &report, &error));
    CHECK(says(report, "\"node_type\":\"Mine\",\"items_in\":2,\"items_out\":3"));
    rm_run_free(run);
}

static void answers_come_in_any_order(void) {
    rm_run *run = open_hosted("", 0);
    rm_call call = place_for(run);
    initialized(&call);
    call.want = RM_WANT_TASK;
    call.most_tasks = 2;
    OK(exchange(&call, SAY("[" N3 "i" N5 "i" N6 "i" N7, NONE)));
    CHECK(call.accepted == 3 && memcmp(call.text + 11, N10, 4) == 0); /* two of them */
    task one = task_at(&call, 0), two = task_at(&call, 1);
    CHECK(one.item == 0 && two.item == 1 && one.id != two.id);
    CHECK(memcmp(two.value, BYTES("i" N6)) == 0);
    task three = next_task(&call, RM_TASK_PROCESS);
    CHECK(three.item == 2);

    call.want = RM_WANT_OUTPUT;
    call.slice_us = 0;
    AGAIN(answered(&call, three, BYTES("[" N1 "i" N3)));
    AGAIN(answered(&call, two, BYTES("[" N1 "i" N2)));
    GIVES_NOTHING(call);
    OK(answered(&call, one, BYTES("[" N1 "i" N1)));
    GIVES(call, "[" N9 "i" N0 "i" N0 "i" N1 "i" N1 "i" N0 "i" N2 "i" N2 "i" N0 "i" N3, NONE);
    AGAIN(answered(&call, one, BYTES("[" N1 "i" N1))); /* once more is nothing */
    GIVES_NOTHING(call);
    OK(rm_run_end(run, &error));
    done(&call, next_task(&call, RM_TASK_FLUSH));
    cleaned_up(&call);
    has_ended(run);
    rm_run_free(run);
}

static void a_node_of_the_hosts_fails(void) {
    const struct {
        const char *failure;
        size_t len;
        rm_status code;
        const char *says;
    } cases[] = {
        {BYTES("{u" N7 "messageu" N3 "badu" N4 "hintu" N2 "dou" N4 "codei\364\377\377\3770"),
         RM_E_IO, "bad"},
        {BYTES("{u" N7 "messageu" N3 "badu" N4 "hintu" N2 "do0"), RM_E_NODE, "\"hint\":\"do\""},
        {BYTES("{0"), RM_E_NODE, "\"node\":\"h\""},
        {BYTES("{u" N4 "codei" N10 "0"), RM_E_NODE, "\"item\":1"},            /* no such code */
        {BYTES("{u" N4 "codei\370\377\377\3770"), RM_E_CLOSED, "\"item\":1"}, /* is not the end */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rm_run *run = open_hosted("", 0);
        rm_call call = place_for(run);
        initialized(&call);
        push(run, "5", 0);
        push(run, "6", 1);
        call.want = RM_WANT_TASK;
        OK(exchange(&call, SILENCE));
        task one = task_at(&call, 0), two = task_at(&call, 1);
        call.want = call.most = call.most_tasks = 0;
        OK(answered(&call, two, cases[i].failure, cases[i].len));
        OK(answered(&call, one, BYTES("[" N1 "i" N5)));
        call.most = call.most_tasks = 100;
        call.want = RM_WANT_OUTPUT;
        call.most_tasks = 0;
        OK(exchange(&call, SILENCE)); /* what came before */
        GIVES(call, "[" N3 "i" N0 "i" N0 "i" N5, NONE);
        call.most_tasks = 100;
        cleaned_up(&call);
        call.want = RM_WANT_END;
        FAILS_WITH(cases[i].code, cases[i].says, exchange(&call, SILENCE));
        FAILS(cases[i].code, exchange(&call, SILENCE)); /* and not RM_END */
        PULL_FAILS(cases[i].code, run);
        rm_run_free(run);
    }

    rm_run *run = open_hosted("", 0); /* before there is anything */
    rm_call call = place_for(run);
    task it = next_task(&call, RM_TASK_INITIALIZE);
    call.want = RM_WANT_END;
    FAILS(RM_E_NODE, answered(&call, it, BYTES("{0")));
    rm_run_free(run);
}

static void what_is_outstanding_is_forgotten(void) {
    rm_run *run = open_hosted("", 0); /* cancelled with a task at the host */
    rm_call call = place_for(run);
    initialized(&call);
    push(run, "5", 0);
    task it = next_task(&call, RM_TASK_PROCESS);
    rm_run_cancel(run);
    call.want = RM_WANT_TASK;
    FAILS_WITH(RM_E_CANCELLED, "\"item\":0", exchange(&call, SILENCE));
    task last = task_at(&call, 0); /* what is left to do comes with the failure */
    CHECK(last.kind == RM_TASK_CLEANUP);
    FAILS(RM_E_CANCELLED, answered(&call, it, BYTES("[" N1 "N"))); /* too late */
    FAILS(RM_E_CANCELLED, answered(&call, last, BYTES(NONE)));
    GIVES_NOTHING(call);
    rm_run_free(run);

    run = open_hosted("", 0); /* freed with one */
    call = place_for(run);
    initialized(&call);
    push(run, "5", 0);
    (void)next_task(&call, RM_TASK_PROCESS);
    push(run, "6", 1);
    rm_run_free(run);

    run = open_hosted("", 0); /* interrupted with one */
    call = place_for(run);
    initialized(&call);
    push(run, "5", 0);
    it = next_task(&call, RM_TASK_PROCESS);
    OK(rm_run_interrupt(run, &error));
    done(&call, it); /* of the past */
    push(run, "6", 1);
    done(&call, next_task(&call, RM_TASK_INTERRUPT));
    it = next_task(&call, RM_TASK_PROCESS);
    CHECK(it.item == 1);
    call.want = RM_WANT_OUTPUT;
    OK(answered(&call, it, BYTES("[" N1 "i" N6)));
    GIVES(call, "[" N3 "i" N1 "i" N0 "i" N6, NONE);
    rm_run_free(run);
}

static void a_descriptor_tells_of_tasks(void) {
    rm_run *run =
        opened(pipeline_of("{\"id\": \"d\", \"node_type\": \"Delay\", \"params\": "
                           "{\"seconds\": 0.01}}, {\"id\": \"h\", \"node_type\": \"Mine\"}",
                           "{\"from\": \"d\", \"to\": \"h\"}", "[\"Mine\"]"),
               0, -1);
    int fd = (int)rm_run_fd(run);
    rm_call call = place_for(run);
    for (int32_t kind = RM_TASK_INITIALIZE; kind <= RM_TASK_PROCESS; kind++) {
        if (kind == RM_TASK_PROCESS) push(run, "5", 0);
        call.want = RM_WANT_TASK;
        call.slice_us = 0;
        rm_status status;
        while ((status = exchange(&call, SILENCE)) == RM_AGAIN)
            until_readable(fd);
        OK(status);
        task it = task_at(&call, 0);
        CHECK(it.node == 1 && it.kind == kind);
        done(&call, it);
    }
    rm_run_free(run);
}

static void a_part_comes_to_the_host_and_back(void) {
    rm_run *run = open_hosted("", 0);
    rm_call call = place_for(run);
    initialized(&call);
    rm_view part = {.struct_size = sizeof part, .kind = RM_BYTES, .data = (void *)"abc"};
    part.byte_len = 3;
    part.pts_us = RM_NO_PTS;
    call.parts = &part;
    call.part_count = 1;
    call.want = RM_WANT_TASK;
    OK(exchange(&call, SAY("[" N1 PART "i" N0 "0", NONE)));
    CHECK(call.given == (RM_HELD | RM_ESCAPED) && call.given_count == 1);
    CHECK(call.given_parts->byte_len == 3 && memcmp(call.given_parts->data, "abc", 3) == 0);
    task it = task_at(&call, 0);
    CHECK(memcmp(it.value, BYTES(PART "i" N0 "0")) == 0);
    rm_call_clear(&call);
    part.data = (void *)"defg";
    part.byte_len = 4;
    call.want = RM_WANT_OUTPUT;
    OK(answered(&call, it, BYTES("[" N1 PART "i" N0 "0")));
    CHECK(call.given_count == 1 && memcmp(call.given_parts->data, "defg", 4) == 0);
    rm_call_clear(&call);
    rm_run_free(run);
}

static void a_batch_may_have_nodes_of_the_hosts(void) {
    rm_pipeline *pipeline =
        pipeline_of("{\"id\": \"a\", \"node_type\": \"PassThrough\"}, {\"id\": \"h\", "
                    "\"node_type\": \"Mine\"}",
                    "{\"from\": \"a\", \"to\": \"h\"}", "[\"Mine\"]");
    /* Nobody would take its tasks while the library waits for the end. */
    rm_data *result = (rm_data *)&result;
    FAILS_WITH(RM_E_UNSUPPORTED, "rm_run_start",
               rm_pipeline_run(pipeline, NULL, -1, &result, NULL, &error));
    CHECK(result == NULL);
    rm_call batch = {.struct_size = sizeof batch, .pipeline = pipeline, .kind = RM_JSON};
    batch.slice_us = batch.timeout_ms = -1;
    CHECK(rm_call_run(&batch, TEXT("[1, 2]")) == RM_E_UNSUPPORTED && batch.run == NULL);
    CHECK(strstr(rm_error_json(batch.error, NULL), "rm_call_exchange"));
    rm_call_clear(&batch);

    batch.slice_us = 0;
    CHECK(rm_call_run(&batch, TEXT("[1, 2]")) == RM_AGAIN);
    rm_call call = place_for(batch.run);
    call.most = 0; /* outputs come at the end */
    done(&call, next_task(&call, RM_TASK_INITIALIZE));
    for (int item = 0; item < 2; item++) {
        call.most = 0;
        task it = next_task(&call, RM_TASK_PROCESS);
        CHECK(it.node == 1 && it.item == item);
        call.want = call.most = call.most_tasks = 0;
        OK(answered(&call, it, BYTES("[" N2 "i" N5 "i" N6)));
    }
    call.most = 0;
    task it = next_task(&call, RM_TASK_FLUSH);
    done(&call, it);
    AGAIN(rm_run_wait(batch.run, 0, &result, NULL, &error));
    call.most = 0;
    done(&call, next_task(&call, RM_TASK_CLEANUP));
    OK(rm_run_wait(batch.run, -1, &result, NULL, &error));
    CHECK(gives(result, "[5,6,5,6]"));
    rm_call_clear(&batch);
    rm_pipeline_free(pipeline);

    /* Its nodes are asked for what they do. */
    pipeline = pipeline_of("{\"id\": \"h\", \"node_type\": \"Mine\"}", "",
                           "[{\"name\": \"Mine\", \"tasks\": []}]");
    batch.pipeline = pipeline;
    CHECK(rm_call_run(&batch, TEXT("[1]")) == RM_AGAIN);
    call = place_for(batch.run);
    call.most = 0;
    it = next_task(&call, RM_TASK_PROCESS);
    call.want = call.most = call.most_tasks = 0;
    OK(answered(&call, it, BYTES("[" N1 "i" N5)));
    OK(rm_run_wait(batch.run, -1, &result, NULL, &error));
    CHECK(gives(result, "[5]"));
    rm_call_clear(&batch);
    rm_pipeline_free(pipeline);
    const char *unknown_task = "[{\"name\": \"Mine\", \"tasks\": [\"dance\"]}]";
    FAILS(RM_E_JSON,
          rm_pipeline_new_hosted(NULL, TEXT("{}"), TEXT(unknown_task), &pipeline, &error));

    /* What could be the host's, but is not, is run. */
    pipeline = pipeline_of("{\"id\": \"a\", \"node_type\": \"PassThrough\"}", "", "[\"Mine\"]");
    OK(rm_pipeline_run(pipeline, NULL, -1, &result, NULL, &error));
    CHECK(gives(result, "[]"));
    rm_pipeline_free(pipeline);

    /* The host's come before the library's; others have to be known. */
    pipeline = pipeline_of("{\"id\": \"a\", \"node_type\": \"Multiply\"}", "", "[\"Multiply\"]");
    FAILS(RM_E_UNSUPPORTED, rm_pipeline_run(pipeline, NULL, -1, &result, NULL, &error));
    rm_pipeline_free(pipeline);
    const char *unknown = "{\"version\": \"v1\", \"nodes\": [{\"id\": \"a\", \"node_type\": "
                          "\"Mine\"}], \"connections\": []}";
    FAILS_WITH(RM_E_MANIFEST, "Mine",
               rm_pipeline_new_hosted(NULL, TEXT(unknown), TEXT("[\"Yours\"]"), &pipeline, &error));
    CHECK(pipeline == NULL);
}

int main(void) {
    RUN(null_is_refused_and_outs_are_null);
    RUN(other_objects_are_told_apart);
    RUN(structs_state_their_size);
    RUN(items_go_in_and_outputs_come_out);
    RUN(many_come_at_a_time);
    RUN(a_full_window_holds_back);
    RUN(an_item_is_nested_up_to_the_limit);
    RUN(what_is_flushed_has_no_item);
    RUN(an_item_is_for_all_sources_or_for_one);
    RUN(a_failure_comes_after_what_came_before_it);
    RUN(an_end_is_an_end);
    RUN(time_runs_out);
    RUN(a_run_is_cancelled_at_any_time);
    RUN(a_run_is_freed_at_any_time);
    RUN(what_is_in_flight_is_discarded);
    RUN(a_node_gets_other_parameters);
    RUN(a_run_says_what_it_is_at);
    RUN(threads_push_and_pull);
    RUN(workers_keep_the_order);
    RUN(a_heavy_graph_is_fed);
    RUN(a_descriptor_tells_of_what_is_there);
    RUN(a_run_with_its_whole_input_is_not_fed);
    RUN(a_batch_gives_tasks_as_it_begins_and_its_result_as_it_ends);
    RUN(a_run_is_booked_until_it_is_over);
    RUN(an_exchange_takes_items_and_gives_outputs);
    RUN(floats_are_items_like_others);
    RUN(parts_are_copied);
    RUN(a_part_with_a_tag_is_lent);
    RUN(an_item_goes_as_it_is);
    RUN(small_parts_stand_in_the_text);
    RUN(rows_are_items_and_outputs);
    RUN(what_has_no_room_is_held);
    RUN(a_text_that_is_wrong_is_refused);
    RUN(a_node_of_the_hosts_lives_as_others_do);
    RUN(answers_come_in_any_order);
    RUN(a_node_of_the_hosts_fails);
    RUN(what_is_outstanding_is_forgotten);
    RUN(a_descriptor_tells_of_tasks);
    RUN(a_part_comes_to_the_host_and_back);
    RUN(a_batch_may_have_nodes_of_the_hosts);
    return 0;
}
