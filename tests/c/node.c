/* rm_node_vtable, rm_task: nodes that are written in C. */
#include "check.h"

/* What a type of this program has seen; its user_data. */
typedef struct type {
    int inits, calls, flushes, interrupts, cleanups, destroys;
    const char *params; /* what init is to be given, if it is looked at */
    rm_status fails;    /* what init fails with */
} type;

/* The state of a node: its type, and what it has added up. */
typedef struct node {
    type *type;
    long sum;
    int inside; /* so that two calls at once are seen */
} node;

static void count(int *what) {
    __atomic_fetch_add(what, 1, __ATOMIC_SEQ_CST);
}

static int seen(const int *what) {
    return __atomic_load_n(what, __ATOMIC_SEQ_CST);
}

/* Returns once this was counted so often. */
static void until(const int *what, int times) {
    while (seen(what) < times)
        pause_ms(1);
}

static const char *json_of(const rm_data *data) {
    rm_view view = {.struct_size = sizeof view};
    CHECK(rm_data_view(data, &view, NULL) == RM_OK);
    return view.json;
}

static void emit_number(rm_task *task, long number) {
    char text[30];
    rm_view view = {.struct_size = sizeof view, .kind = RM_JSON, .json = text};
    view.json_len = (size_t)snprintf(text, sizeof text, "%ld", number);
    rm_data *data = NULL;
    CHECK(rm_data_new(&view, NULL, NULL, &data, NULL) == RM_OK);
    CHECK(rm_task_emit(task, data, NULL) == RM_OK);
    rm_data_free(data);
}

static void init(void *user_data, const rm_data *params, void **state, rm_task *task) {
    type *type = user_data;
    count(&type->inits);
    CHECK(*state == user_data);
    if (type->params) CHECK(strcmp(json_of(params), type->params) == 0);
    CHECK(rm_task_emit(task, params, NULL) == RM_E_ARGUMENT);
    if (!type->fails) {
        node *made = calloc(1, sizeof *made);
        made->type = type;
        *state = made;
    }
    rm_task_finish(task, type->fails, NULL);
}

/* Gives a number once for each time that it stands for, up to 3: so 0 gives nothing. Fails with
 * numbers below 0. */
static void repeat(void *state, const rm_data *input, rm_task *task) {
    node *node = state;
    long number = strtol(json_of(input), NULL, 10);
    CHECK(__atomic_fetch_add(&node->inside, 1, __ATOMIC_SEQ_CST) == 0);
    count(&node->type->calls);
    node->sum += number;
    for (long i = 0; i < number && i < 3; i++)
        emit_number(task, number);
    __atomic_fetch_sub(&node->inside, 1, __ATOMIC_SEQ_CST);
    if (number >= 0) {
        rm_task_finish(task, RM_OK, NULL);
        return;
    }
    emit_number(task, number); /* does not count */
    rm_error *error = rm_error_new(RM_E_IO, TEXT("below 0"), TEXT("give more"));
    rm_task_finish(task, RM_E_IO, error);
    rm_error_free(error);
}

static void flush(void *state, rm_task *task) {
    node *node = state;
    count(&node->type->flushes);
    emit_number(task, node->sum);
    rm_task_finish(task, RM_OK, NULL);
}

static void interrupt(void *state) {
    node *node = state;
    count(&node->type->interrupts);
    node->sum = 0;
}

static void cleanup(void *state) {
    node *node = state;
    count(&node->type->cleanups);
    free(node);
}

static void destroy(void *user_data) {
    type *type = user_data;
    CHECK(seen(&type->cleanups) == (type->fails ? 0 : seen(&type->inits)));
    count(&type->destroys);
}

static const rm_node_vtable all = {sizeof all, 0,     NULL,      0,       init,
                                   repeat,     flush, interrupt, cleanup, destroy};

static rm_runtime *runtime_with(const char *name, rm_node_vtable vtable, void *user_data) {
    rm_runtime *runtime = NULL;
    OK(rm_runtime_new(NULL, 0, &runtime, &error));
    OK(rm_runtime_add_node(runtime, TEXT(name), &vtable, user_data, &error));
    return runtime;
}

static rm_pipeline *pipeline_of(rm_runtime *runtime, const char *nodes, const char *connections) {
    char manifest[1000];
    snprintf(manifest, sizeof manifest,
             "{\"version\": \"v1\", \"nodes\": [%s], \"connections\": [%s]}", nodes, connections);
    rm_pipeline *pipeline = NULL;
    OK(rm_pipeline_new(runtime, TEXT(manifest), &pipeline, &error));
    return pipeline;
}

/* A pipeline of the only node "n" of the type "Mine", with more keys of its own. */
static rm_pipeline *only(rm_runtime *runtime, const char *more) {
    char node[300];
    snprintf(node, sizeof node, "{\"id\": \"n\", \"node_type\": \"Mine\"%s}", more);
    return pipeline_of(runtime, node, "");
}

/* A run of this pipeline, which it keeps. */
static rm_run *opened(rm_pipeline *pipeline) {
    rm_run *run = NULL;
    OK(rm_run_open(pipeline, 0, -1, &run, &error));
    rm_pipeline_free(pipeline);
    return run;
}

static rm_status run_on(rm_pipeline *pipeline, const char *items, rm_data **result) {
    rm_data *input = json(items);
    *result = (rm_data *)result;
    rm_status status = rm_pipeline_run(pipeline, input, -1, result, NULL, &error);
    rm_data_free(input);
    return status;
}

static void runs(rm_pipeline *pipeline, const char *items, const char *outputs) {
    rm_data *result = NULL;
    OK(run_on(pipeline, items, &result));
    CHECK(gives(result, outputs));
}

#define RUN_FAILS(code, text, pipeline, items)                                                     \
    do {                                                                                           \
        rm_data *none = NULL;                                                                      \
        FAILS_WITH(code, text, run_on(pipeline, items, &none));                                    \
        CHECK(none == NULL);                                                                       \
    } while (0)

/* Between native nodes, with every flag that lets the callback finish the task. */
static void a_node_works_among_the_librarys(void) {
    const uint32_t flags[] = {0, RM_NODE_HEAVY, RM_NODE_WAITS, RM_NODE_HEAVY | RM_NODE_WAITS};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        type type = {0};
        rm_node_vtable vtable = all;
        vtable.flags = flags[i];
        rm_runtime *runtime = runtime_with("Mine", vtable, &type);
        rm_pipeline *pipeline = pipeline_of(
            runtime,
            "{\"id\": \"a\", \"node_type\": \"Add\", \"params\": {\"addend\": -1}},"
            "{\"id\": \"n\", \"node_type\": \"MineNode\"},"
            "{\"id\": \"b\", \"node_type\": \"Multiply\", \"params\": {\"factor\": 10}}",
            "{\"from\": \"a\", \"to\": \"n\"}, {\"from\": \"n\", \"to\": \"b\"}");
        rm_runtime_free(runtime);
        runs(pipeline, "[1, 2, 3, 9]", "[10,20,20,80,80,80,110]");
        CHECK(type.inits == 1 && type.calls == 4 && type.flushes == 1 && type.cleanups == 1);
        RUN_FAILS(RM_E_IO, "\"node\":\"n\"", pipeline, "[1, 0]");
        CHECK(type.inits == 2 && type.flushes == 1 && type.cleanups == 2);

        rm_call call = {.struct_size = sizeof call, .kind = RM_JSON, .slice_us = -1};
        call.timeout_ms = -1;
        call.pipeline = pipeline;
        CHECK(rm_call_run(&call, TEXT("[3]")) == RM_OK);
        CHECK(strcmp(call.text, "[20,20,20]") == 0);
        rm_call_clear(&call);

        rm_run *run = opened(pipeline);
        push(run, "3", 0);
        pulls(run, 2, 0, "20");
        pulls(run, 2, 0, "20");
        push(run, "2", 1);
        OK(rm_run_end(run, &error));
        pulls(run, 2, 1, "10");
        pulls(run, 2, -1, "30");
        has_ended(run);
        CHECK(type.destroys == 0);
        rm_run_free(run);
        CHECK(type.inits == 4 && type.cleanups == 4);
        until(&type.destroys, 1);
    }
}

static void minimal(void *state, const rm_data *input, rm_task *task) {
    count(state);
    CHECK(rm_task_emit(task, input, NULL) == RM_OK);
    rm_task_finish(task, RM_OK, NULL);
}

static const rm_node_vtable only_process = {.struct_size = sizeof only_process, .process = minimal};

static void only_process_is_needed(void) {
    int calls = 0;
    rm_runtime *runtime = runtime_with("Mine", only_process, &calls);
    rm_pipeline *pipeline = only(runtime, "");
    runs(pipeline, "[1, {\"a\": [null]}, \"text\"]", "[1,{\"a\":[null]},\"text\"]");
    CHECK(calls == 3);
    rm_pipeline_free(pipeline);
    rm_runtime_free(runtime);
}

static void what_cannot_be_registered_says_why(void) {
    type type = {0};
    rm_runtime *runtime = runtime_with("Mine", only_process, &type.calls);
    rm_node_vtable wrong[7];
    for (int i = 0; i < 7; i++)
        wrong[i] = all;
#define REFUSED(code, text, name, vtable)                                                          \
    FAILS_WITH(code, text, rm_runtime_add_node(runtime, TEXT(name), vtable, &type, &error))
    REFUSED(RM_E_ARGUMENT, "already a node type \\\"Mine\\\"", "Mine", &all);
    REFUSED(RM_E_ARGUMENT, "already", "MineNode", &all);
    REFUSED(RM_E_ARGUMENT, "already a node type \\\"Add\\\"", "Add", &all);
    REFUSED(RM_E_ARGUMENT, "already", "AddNode", &all);
    REFUSED(RM_E_ARGUMENT, "no name", "", &all);
    REFUSED(RM_E_UTF8, "node_type", "\xff", &all);
    REFUSED(RM_E_ARGUMENT, "vtable is NULL", "Other", NULL);
    wrong[0].struct_size = 8;
    REFUSED(RM_E_ARGUMENT, "struct_size", "Other", &wrong[0]);
    wrong[1].process = NULL;
    REFUSED(RM_E_ARGUMENT, "no process", "Other", &wrong[1]);
    wrong[2].flags = 8;
    REFUSED(RM_E_ARGUMENT, "flags", "Other", &wrong[2]);
    const struct {
        rm_status code;
        const char *text, *schema;
    } schemas[] = {
        {RM_E_JSON, "params_schema", "{"},
        {RM_E_UTF8, "params_schema", "\"\xff\""},
        {RM_E_ARGUMENT, "not an object", "[]"},
        {RM_E_ARGUMENT, "\\\"properties\\\" is not", "{\"properties\": 1}"},
        {RM_E_ARGUMENT, "\\\"a\\\" is not", "{\"properties\": {\"a\": 1}}"},
        {RM_E_ARGUMENT, "anyOf", "{\"properties\": {\"a\": {\"anyOf\": []}}}"},
        {RM_E_ARGUMENT, "\\\"required\\\" is not", "{\"required\": [\"a\"]}"},
        {RM_E_ARGUMENT, "\\\"required\\\" is not", "{\"required\": 1}"},
    };
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        wrong[3].params_schema = schemas[i].schema;
        wrong[3].params_schema_len = strlen(schemas[i].schema);
        REFUSED(schemas[i].code, schemas[i].text, "Other", &wrong[3]);
    }
    CHECK(rm_runtime_add_node(runtime, "Other", 5, NULL, NULL, NULL) == RM_E_ARGUMENT);
    rm_runtime *freed = (rm_runtime *)&type;
    FAILS(RM_E_ARGUMENT, rm_runtime_add_node(freed, TEXT("Other"), &all, &type, &error));

    /* A name that was refused is free, and what a newer host adds to the struct is not looked at.
     */
    struct {
        rm_node_vtable vtable;
        void *newer;
    } longer = {all, &longer};
    longer.vtable.struct_size = sizeof longer;
    OK(rm_runtime_add_node(runtime, TEXT("Other"), &longer.vtable, &type, &error));
    CHECK(type.destroys == 0);
    OK(rm_runtime_close(runtime, -1, &error));
    REFUSED(RM_E_CLOSED, "closed", "Another", &all);
    rm_runtime_free(runtime);
    CHECK(type.destroys == 1);
}

static void a_type_is_there_from_then_on(void) {
    int calls = 0;
    rm_runtime *runtime = NULL;
    rm_data *nodes = NULL;
    rm_pipeline *pipeline = NULL;
    OK(rm_runtime_new(NULL, 0, &runtime, &error));
    const char *manifest = "{\"version\": \"v1\", \"nodes\": [{\"id\": \"n\", \"node_type\": "
                           "\"Mine\"}]}";
    FAILS_WITH(RM_E_MANIFEST, "no node type \\\"Mine\\\"",
               rm_pipeline_new(runtime, TEXT(manifest), &pipeline, &error));
    OK(rm_runtime_add_node(runtime, TEXT("Mine"), &only_process, &calls, &error));
    OK(rm_pipeline_new(runtime, TEXT(manifest), &pipeline, &error));
    runs(pipeline, "[1]", "[1]");
    OK(rm_runtime_query(runtime, TEXT("nodes"), &nodes, &error));
    CHECK(says(nodes, "\"name\":\"Mine\""));
    rm_pipeline_free(pipeline);
    /* Not in another one. */
    FAILS(RM_E_MANIFEST, rm_pipeline_new(NULL, TEXT(manifest), &pipeline, &error));
    rm_runtime_free(runtime);

    /* The default one is as good; this type stays as long as the process. */
    static int forever;
    OK(rm_runtime_add_node(NULL, TEXT("MineForEver"), &only_process, &forever, &error));
    rm_data *result = NULL;
    OK(rm_run_manifest(TEXT("{\"version\": \"v1\", \"nodes\": [{\"id\": \"n\", \"node_type\": "
                            "\"MineForEver\"}]}"),
                       TEXT("[7]"), &result, &error));
    CHECK(gives(result, "[7]") && forever == 1);
}

static void parameters_are_checked_and_completed(void) {
    const char *schema = "{\"type\": \"object\", \"required\": [\"b\"], \"properties\": {"
                         "\"a\": {\"type\": \"integer\", \"minimum\": 1, \"default\": 5},"
                         "\"b\": {\"type\": \"string\"}}}";
    type type = {.params = "{\"b\":\"x\",\"a\":5}"};
    rm_node_vtable vtable = all;
    vtable.params_schema = schema;
    vtable.params_schema_len = strlen(schema);
    rm_runtime *runtime = runtime_with("Mine", vtable, &type);
    rm_pipeline *pipeline = only(runtime, ", \"params\": {\"b\": \"x\"}");
    runs(pipeline, "[]", "[0]");
    rm_data *told = NULL;
    OK(rm_runtime_query(runtime, TEXT("schema:Mine"), &told, &error));
    CHECK(says(told, "\"minimum\":1"));
    const char *manifest = "{\"version\": \"v1\", \"nodes\": [{\"id\": \"n\", \"node_type\": "
                           "\"Mine\", \"params\": {\"a\": 0, \"c\": 1}}]}";
    rm_pipeline *none = NULL;
    FAILS_WITH(RM_E_MANIFEST, "3 problems",
               rm_pipeline_new(runtime, TEXT(manifest), &none, &error));

    rm_run *run = opened(pipeline);
    push(run, "1", 0);
    type.params = "{\"b\":\"y\",\"a\":5}";
    OK(rm_run_set(run, TEXT("n"), TEXT("{\"b\": \"y\"}"), &error));
    FAILS_WITH(RM_E_MANIFEST, "/a", rm_run_set(run, TEXT("n"), TEXT("{\"a\": 0}"), &error));
    push(run, "2", 1);
    OK(rm_run_end(run, &error));
    pulls(run, 0, 0, "1");
    pulls(run, 0, 1, "2");
    pulls(run, 0, 1, "2");
    pulls(run, 0, -1, "2"); /* a fresh node, so without the 1 */
    has_ended(run);
    rm_run_free(run);
    CHECK(type.inits == 3 && type.cleanups == 3);
    rm_runtime_free(runtime);
}

static void a_failure_is_told_with_its_place(void) {
    type type = {0};
    rm_runtime *runtime = runtime_with("Mine", all, &type);
    rm_pipeline *pipeline = only(runtime, "");
    RUN_FAILS(RM_E_IO, "\"message\":\"below 0\",\"node\":\"n\",\"node_type\":\"Mine\"", pipeline,
              "[1, -1]");
    RUN_FAILS(RM_E_IO, "\"hint\":\"give more\",\"item\":1", pipeline, "[1, -1]");
    type.fails = RM_E_DENIED;
    RUN_FAILS(RM_E_DENIED, "the node failed", pipeline, "[1]");
    type.fails = -1234;
    RUN_FAILS(RM_E_NODE, "the node failed", pipeline, "[1]");
    type.fails = RM_END;
    RUN_FAILS(RM_E_ARGUMENT, "with the status 2", pipeline, "[1]");
    type.fails = RM_E_TIMEOUT; /* its own, and not the run's */
    RUN_FAILS(RM_E_TIMEOUT, "the node failed", pipeline, "[1]");
    CHECK(type.inits == 6 && type.cleanups == 2);
    type.fails = RM_OK;
    type.cleanups = type.inits; /* those that failed are not cleaned up */
    rm_pipeline_free(pipeline);
    rm_runtime_free(runtime);
    CHECK(type.destroys == 1);
}

static void what_to_do_after_a_failure_is_the_manifests(void) {
    const struct {
        uint32_t flags;
        const char *more, *outputs;
    } cases[] = {
        {0, ", \"on_error\": \"skip\"", "[1,2,2,2]"},
        {RM_NODE_WAITS, ", \"on_error\": \"skip\"", "[1,2,2,2]"},
        {0, ", \"on_error\": \"passthrough\"", "[1,-1,2,2,2]"},
        {RM_NODE_HEAVY, ", \"on_error\": \"passthrough\"", "[1,-1,2,2,2]"},
        {RM_NODE_WAITS, ", \"on_error\": \"passthrough\"", "[1,-1,2,2,2]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        type type = {0};
        rm_node_vtable vtable = all;
        vtable.flags = cases[i].flags;
        rm_runtime *runtime = runtime_with("Mine", vtable, &type);
        rm_pipeline *pipeline = only(runtime, cases[i].more);
        runs(pipeline, "[1, -1, 2]", cases[i].outputs);
        rm_pipeline_free(pipeline);
        pipeline = only(runtime, ", \"on_error\": {\"retry\": 2, \"backoff\": 0.001}");
        type.calls = 0;
        RUN_FAILS(RM_E_IO, "below 0", pipeline, "[-1]");
        CHECK(type.calls == 3);
        rm_pipeline_free(pipeline);
        rm_runtime_free(runtime);
        until(&type.destroys, 1);
    }
}

/* Tasks that are finished later: the callback puts them here. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct work {
        rm_task *task;
        long number;
        void *state;
    } waiting[64];
    int count;
} desk = {.lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER};

static void put(rm_task *task, long number, void *state) {
    pthread_mutex_lock(&desk.lock);
    desk.waiting[desk.count++] = (struct work){task, number, state};
    pthread_cond_signal(&desk.filled);
    pthread_mutex_unlock(&desk.lock);
}

static struct work take(void) {
    pthread_mutex_lock(&desk.lock);
    while (desk.count == 0)
        pthread_cond_wait(&desk.filled, &desk.lock);
    struct work work = desk.waiting[--desk.count]; /* the last first */
    pthread_mutex_unlock(&desk.lock);
    return work;
}

static void put_value(void *state, const rm_data *input, rm_task *task) {
    count(&((node *)state)->type->calls);
    put(task, strtol(json_of(input), NULL, 10), state);
}

static void put_init(void *user_data, const rm_data *params, void **state, rm_task *task) {
    (void)params;
    count(&((type *)user_data)->inits);
    put(task, 0, state);
}

static void put_flush(void *state, rm_task *task) {
    count(&((node *)state)->type->flushes);
    put(task, 0, state);
}

static rm_node_vtable later(void) {
    rm_node_vtable vtable = all;
    vtable.flags = RM_NODE_WAITS | RM_NODE_STATELESS;
    vtable.process = put_value;
    vtable.flush = NULL;
    return vtable;
}

static void *emit_one(void *task) {
    emit_number(task, 5);
    return NULL;
}

static void tasks_may_be_finished_later_and_by_anybody(void) {
    type type = {0};
    rm_node_vtable vtable = later();
    vtable.flush = put_flush;
    rm_runtime *runtime = runtime_with("Mine", vtable, &type);
    rm_run *run = opened(only(runtime, ""));
    push(run, "1", 0);
    push(run, "2", 1);
    for (long number = 1; number <= 2; number++) {
        struct work work = take();
        CHECK(work.number == number && desk.count == 0); /* one at a time */
        CHECK(rm_task_cancelled(work.task) == RM_OK);
        pthread_t others[3];
        for (int i = 0; i < 3; i++)
            others[i] = begin(emit_one, work.task);
        for (int i = 0; i < 3; i++)
            join(others[i]);
        rm_output output;
        AGAIN(pull(run, 0, &output)); /* not before it is finished */
        rm_task_finish(work.task, RM_OK, NULL);
        for (int i = 0; i < 3; i++)
            pulls(run, 0, number - 1, "5");
    }
    OK(rm_run_end(run, &error));
    struct work work = take();
    emit_number(work.task, 8);
    rm_task_finish(work.task, RM_OK, NULL);
    pulls(run, 0, -1, "8");
    has_ended(run);
    rm_run_free(run);
    CHECK(type.calls == 2 && type.cleanups == 1 && type.destroys == 0);
    rm_runtime_free(runtime);
    until(&type.destroys, 1);
}

static void several_states_share_the_work_in_order(void) {
    type type = {0};
    rm_runtime *runtime = runtime_with("Mine", later(), &type);
    rm_run *run = opened(only(runtime, ", \"parallelism\": 3"));
    for (uint64_t i = 0; i < 3; i++)
        push(run, i == 0 ? "1" : i == 1 ? "2" : "3", i);
    until(&type.calls, 3);
    CHECK(type.inits == 3);
    for (int i = 0; i < 3; i++) {
        struct work work = take();
        emit_number(work.task, work.number);
        rm_task_finish(work.task, RM_OK, NULL);
    }
    for (int64_t i = 0; i < 3; i++)
        pulls(run, 0, i, i == 0 ? "1" : i == 1 ? "2" : "3");
    rm_run_free(run);
    CHECK(type.cleanups == 3);

    type.calls = 0;
    rm_node_vtable vtable = all;
    vtable.flags = RM_NODE_HEAVY | RM_NODE_STATELESS;
    vtable.flush = NULL;
    OK(rm_runtime_add_node(runtime, TEXT("Heavy"), &vtable, &type, &error));
    rm_pipeline *pipeline =
        pipeline_of(runtime, "{\"id\": \"n\", \"node_type\": \"Heavy\", \"parallelism\": 2}", "");
    runs(pipeline, "[1, 2, 3, 1, 0, 1]", "[1,2,2,3,3,3,1,1]");
    rm_pipeline_free(pipeline);
    CHECK(type.calls == 6);

    vtable.flags = RM_NODE_HEAVY;
    OK(rm_runtime_add_node(runtime, TEXT("Alone"), &vtable, &type, &error));
    const char *manifest = "{\"version\": \"v1\", \"nodes\": [{\"id\": \"n\", \"node_type\": "
                           "\"Alone\", \"parallelism\": 2}]}";
    FAILS_WITH(RM_E_MANIFEST, "parallelism",
               rm_pipeline_new(runtime, TEXT(manifest), &pipeline, &error));
    rm_runtime_free(runtime);
    until(&type.destroys, 3);
}

static void *pull_one(void *run) {
    rm_error *error = NULL;
    rm_output output = {.struct_size = sizeof output};
    uint32_t count = 0;
    rm_status status = rm_run_pull(run, -1, &output, 1, &count, &error);
    FAILS(RM_E_CANCELLED, status);
    return NULL;
}

/* The task outlives the run, the pipeline and the runtime. */
static void nothing_waits_for_a_task_that_is_finished_late(void) {
    type type = {0};
    rm_runtime *runtime = runtime_with("Mine", later(), &type);
    rm_run *run = opened(only(runtime, ""));
    push(run, "1", 0);
    struct work work = take();
    emit_number(work.task, 1);
    pthread_t waits = begin(pull_one, run);
    rm_run_cancel(run);
    join(waits);
    while (rm_task_cancelled(work.task) == RM_OK)
        pause_ms(1);
    CHECK(rm_task_cancelled(work.task) == RM_E_CANCELLED);
    rm_data *value = json("1");
    FAILS_WITH(RM_E_CANCELLED, "nobody waits", rm_task_emit(work.task, value, &error));
    rm_data_free(value);
    OK(rm_runtime_close(runtime, -1, &error));
    rm_run_free(run);
    rm_runtime_free(runtime);
    CHECK(type.cleanups == 0 && type.destroys == 0);
    ((node *)work.state)->sum = 1; /* it is still there */
    rm_task_finish(work.task, RM_OK, NULL);
    CHECK(type.cleanups == 1);
    until(&type.destroys, 1);

    /* The same where the run is freed while the task is out. */
    memset(&type, 0, sizeof type);
    runtime = runtime_with("Mine", later(), &type);
    run = opened(only(runtime, ""));
    push(run, "1", 0);
    work = take();
    rm_run_free(run);
    rm_runtime_free(runtime);
    CHECK(type.destroys == 0 && rm_task_cancelled(work.task) == RM_E_CANCELLED);
    rm_task *task = work.task;
    rm_clear(&task); /* a finalizer's way to say that nothing comes of it */
    CHECK(task == NULL && type.cleanups == 1);
    until(&type.destroys, 1);
}

static void an_init_may_be_late_as_well(void) {
    for (int succeeds = 0; succeeds < 2; succeeds++) {
        type type = {0};
        rm_node_vtable vtable = later();
        vtable.init = put_init;
        rm_runtime *runtime = runtime_with("Mine", vtable, &type);
        rm_run *run = opened(only(runtime, ""));
        struct work work = take();
        rm_run_free(run);
        rm_runtime_free(runtime);
        CHECK(type.destroys == 0 && rm_task_cancelled(work.task) == RM_E_CANCELLED);
        if (succeeds) {
            node *made = calloc(1, sizeof *made);
            made->type = &type;
            *(void **)work.state = made;
        }
        type.inits = succeeds; /* what destroy is to find cleaned up */
        rm_task_finish(work.task, succeeds ? RM_OK : RM_E_IO, NULL);
        CHECK(type.cleanups == succeeds);
        until(&type.destroys, 1);
    }
}

/* A value that takes too long is given up, and the next one waits for it all the same. */
static void two_tasks_never_have_one_state(void) {
    type type = {0};
    rm_runtime *runtime = runtime_with("Mine", later(), &type);
    rm_run *run = opened(only(runtime, ", \"timeout\": 0.02, \"on_error\": \"skip\""));
    push(run, "1", 0);
    struct work first = take();
    while (rm_task_cancelled(first.task) == RM_OK)
        pause_ms(1);
    push(run, "2", 1); /* has no time left to be called, as the first is not finished */
    rm_data *report = NULL;
    for (bool skipped = false; !skipped; pause_ms(1)) {
        OK(rm_run_report(run, &report, &error));
        skipped = strstr(json_of(report), "\"errors\":2") != NULL;
        rm_data_free(report);
    }
    CHECK(type.calls == 1);
    rm_task_finish(first.task, RM_OK, NULL);
    rm_run_free(run);
    CHECK(type.cleanups == 1);

    /* Nor does what is discarded. */
    run = opened(only(runtime, ""));
    push(run, "3", 0);
    first = take();
    OK(rm_run_interrupt(run, &error));
    while (rm_task_cancelled(first.task) == RM_OK)
        pause_ms(1);
    push(run, "4", 1);
    CHECK(type.calls == 2 && type.interrupts == 0);
    rm_task_finish(first.task, RM_E_CANCELLED, NULL);
    struct work second = take();
    CHECK(second.number == 4 && second.state == first.state && type.interrupts == 1);
    emit_number(second.task, second.number);
    rm_task_finish(second.task, RM_OK, NULL);
    pulls(run, 0, 1, "4");
    rm_run_free(run);
    rm_runtime_free(runtime);
    CHECK(type.cleanups == 2);
    until(&type.destroys, 1);
}

static void the_time_of_a_run_ends_though_a_task_is_out(void) {
    type type = {0};
    rm_runtime *runtime = runtime_with("Mine", later(), &type);
    rm_pipeline *pipeline = only(runtime, "");
    rm_data *input = json("[1]"), *result = NULL;
    FAILS_WITH(RM_E_TIMEOUT, "\"node\":\"n\"",
               rm_pipeline_run(pipeline, input, 20, &result, NULL, &error));
    rm_data_free(input);
    struct work work = take();
    CHECK(rm_task_cancelled(work.task) == RM_E_CANCELLED && type.cleanups == 0);
    rm_task_finish(work.task, RM_OK, NULL);
    CHECK(type.cleanups == 1);
    rm_pipeline_free(pipeline);
    rm_runtime_free(runtime);
    until(&type.destroys, 1);
}

/* Works until it is not wanted any more. */
static void endless(void *state, const rm_data *input, rm_task *task) {
    (void)input;
    rm_status wanted = RM_OK;
    count(&((node *)state)->type->calls);
    while ((wanted = rm_task_cancelled(task)) == RM_OK)
        pause_ms(1);
    rm_task_finish(task, wanted, NULL);
}

static void who_works_for_long_sees_that_it_is_not_wanted(void) {
    const uint32_t flags[] = {0, RM_NODE_HEAVY};
    for (size_t i = 0; i < 2; i++) {
        type type = {0};
        rm_node_vtable vtable = all;
        vtable.flags = flags[i];
        vtable.process = endless;
        rm_runtime *runtime = runtime_with("Mine", vtable, &type);
        rm_pipeline *pipeline = only(runtime, "");
        rm_run *run = NULL;
        rm_data *input = json("[1]"), *result = NULL;
        OK(rm_run_start(pipeline, input, -1, &run, &error));
        pthread_t waits = begin(wait_until_cancelled, run);
        until(&type.calls, 1);
        rm_run_cancel(run);
        join(waits);
        rm_run_free(run);
        FAILS(RM_E_TIMEOUT, rm_pipeline_run(pipeline, input, 20, &result, NULL, &error));
        rm_pipeline_free(pipeline);
        pipeline = only(runtime, ", \"timeout\": 0.02");
        FAILS_WITH(RM_E_TIMEOUT, "took longer than 0.02 s",
                   rm_pipeline_run(pipeline, input, -1, &result, NULL, &error));
        rm_pipeline_free(pipeline);
        rm_data_free(input);
        rm_runtime_free(runtime);
        CHECK(type.calls == 3 && type.cleanups == 3);
        until(&type.destroys, 1);
    }
}

static void interrupt_forgets_what_is_held(void) {
    type type = {0};
    rm_runtime *runtime = runtime_with("Mine", all, &type);
    rm_run *run = opened(only(runtime, ""));
    push(run, "5", 0);
    OK(rm_run_interrupt(run, &error));
    push(run, "1", 1);
    OK(rm_run_end(run, &error));
    pulls(run, 0, 1, "1");
    pulls(run, 0, -1, "1");
    has_ended(run);
    CHECK(type.interrupts == 1);
    rm_run_free(run);
    rm_runtime_free(runtime);
}

/* A task is finished when the callback returns, or its type says that it waits. */
static void who_promises_to_finish_at_once_has_to(void) {
    type type = {0};
    rm_node_vtable vtable = later();
    vtable.flags = 0;
    rm_runtime *runtime = runtime_with("Mine", vtable, &type);
    rm_pipeline *pipeline = only(runtime, "");
    RUN_FAILS(RM_E_NODE, "RM_NODE_WAITS", pipeline, "[1]");
    struct work work = take();
    CHECK(rm_task_cancelled(work.task) == RM_E_CANCELLED && type.cleanups == 0);
    rm_task_finish(work.task, RM_OK, NULL);
    CHECK(type.cleanups == 1);
    rm_pipeline_free(pipeline);

    /* Nor is it called again before. */
    pipeline = only(runtime, ", \"on_error\": \"skip\"");
    runs(pipeline, "[1, 2, 3]", "[]");
    CHECK(type.calls == 2);
    rm_task_finish(take().task, RM_OK, NULL);
    rm_pipeline_free(pipeline);
    rm_runtime_free(runtime);
    CHECK(type.cleanups == 2 && type.destroys == 1);
}

static void many(void *state, const rm_data *input, rm_task *task) {
    (void)state;
    rm_error *error = NULL;
    rm_status status = RM_OK;
    int emitted = 0;
    for (; status == RM_OK; emitted += status == RM_OK)
        status = rm_task_emit(task, input, &error);
    CHECK(status == RM_E_LIMIT && emitted == 11);
    rm_task_finish(task, status, error);
    rm_error_free(error);
}

static void a_task_gives_no_more_than_the_limit(void) {
    rm_runtime *runtime = NULL;
    OK(rm_runtime_new(TEXT("{\"limits\": {\"values\": 10}}"), &runtime, &error));
    rm_node_vtable vtable = only_process;
    for (int i = 0; i < 2; i++) {
        vtable.process = many;
        vtable.flags = i ? RM_NODE_WAITS : 0;
        OK(rm_runtime_add_node(runtime, TEXT(i ? "Waits" : "Mine"), &vtable, NULL, &error));
        rm_pipeline *pipeline = one_node(runtime, i ? "Waits" : "Mine", "{}");
        RUN_FAILS(RM_E_LIMIT, "more than 10 values", pipeline, "[1]");
        rm_pipeline_free(pipeline);
    }
    rm_runtime_free(runtime);
}

/* Asks the library, and runs another pipeline, in a callback. */
static void ask_back(void *state, const rm_data *input, rm_task *task) {
    rm_data *stats = NULL, *items = NULL, *result = NULL;
    rm_view view = {.struct_size = sizeof view, .kind = RM_JSON, .json = "[20]", .json_len = 4};
    CHECK(rm_runtime_query(state, "stats", 5, &stats, NULL) == RM_OK);
    rm_data_free(stats);
    rm_data *kept = rm_data_retain(input);
    CHECK(rm_runtime_add_node(state, "Mine", 4, &all, NULL, NULL) == RM_E_ARGUMENT);
    rm_pipeline *inner = one_node(state, "Add", "{\"addend\": 1}");
    CHECK(rm_data_new(&view, NULL, NULL, &items, NULL) == RM_OK);
    CHECK(rm_pipeline_run(inner, items, -1, &result, NULL, NULL) == RM_OK);
    CHECK(rm_task_emit(task, result, NULL) == RM_OK);
    CHECK(rm_task_emit(task, kept, NULL) == RM_OK);
    rm_data_free(result);
    rm_data_free(items);
    rm_data_free(kept);
    rm_pipeline_free(inner);
    rm_task_finish(task, RM_OK, NULL);
}

static void callbacks_may_call_the_library(void) {
    const uint32_t flags[] = {0, RM_NODE_HEAVY, RM_NODE_WAITS};
    for (size_t i = 0; i < 3; i++) {
        rm_runtime *runtime = NULL;
        OK(rm_runtime_new(NULL, 0, &runtime, &error));
        rm_node_vtable vtable = only_process;
        vtable.process = ask_back;
        vtable.flags = flags[i];
        OK(rm_runtime_add_node(runtime, TEXT("Mine"), &vtable, runtime, &error));
        rm_pipeline *pipeline = only(runtime, "");
        runs(pipeline, "[1, 2]", "[[21],1,[21],2]");
        rm_pipeline_free(pipeline);
        rm_runtime_free(runtime);
    }
}

static int released;

static void release(void *memory) {
    count(&released);
    free(memory);
}

/* Gives memory of its own, uncopied. */
static void lend(void *state, const rm_data *input, rm_task *task) {
    (void)state;
    rm_view view = view_of(input);
    CHECK(view.kind == RM_BYTES && view.byte_len == 3 && memcmp(view.data, "abc", 3) == 0);
    rm_data *data = NULL;
    rm_view lent = {.struct_size = sizeof lent, .kind = RM_BYTES, .byte_len = 4};
    lent.data = memcpy(malloc(4), "defg", 4);
    CHECK(rm_data_new(&lent, release, lent.data, &data, NULL) == RM_OK);
    CHECK(rm_task_emit(task, data, NULL) == RM_OK);
    rm_data_free(data);
    rm_task_finish(task, RM_OK, NULL);
}

static void memory_of_a_node_is_used_where_it_is(void) {
    rm_node_vtable vtable = only_process;
    vtable.process = lend;
    rm_runtime *runtime = runtime_with("Mine", vtable, NULL);
    rm_pipeline *pipeline = only(runtime, "");
    rm_view bytes = {.struct_size = sizeof bytes, .kind = RM_BYTES, .data = "abc"};
    bytes.byte_len = 3;
    rm_view items = {.struct_size = sizeof items, .kind = RM_JSON, .json = "[{\"$rm\": 0}]"};
    items.json_len = strlen(items.json);
    rm_data *item = NULL, *input = NULL, *result = NULL;
    OK(rm_data_new(&bytes, NULL, NULL, &item, &error));
    items.children = &item;
    items.child_count = 1;
    OK(rm_data_new(&items, NULL, NULL, &input, &error));
    OK(rm_pipeline_run(pipeline, input, -1, &result, NULL, &error));
    rm_view given = view_of(view_of(result).children[0]);
    CHECK(given.byte_len == 4 && memcmp(given.data, "defg", 4) == 0 && released == 0);
    rm_data_free(result);
    CHECK(released == 1);
    rm_data_free(item);
    rm_data_free(input);
    rm_pipeline_free(pipeline);
    rm_runtime_free(runtime);
}

/* From several threads at once: runs of one pipeline, each with a state of its own. */
static void *run_often(void *pipeline) {
    rm_error *error = NULL;
    rm_data *input = json("[3, 1]");
    for (int i = 0; i < 50; i++) {
        rm_data *result = NULL;
        rm_status status = rm_pipeline_run(pipeline, input, -1, &result, NULL, &error);
        OK(status);
        CHECK(gives(result, "[3,3,3,1,4]"));
    }
    rm_data_free(input);
    return NULL;
}

static void every_run_has_states_of_its_own(void) {
    type type = {0};
    rm_runtime *runtime = runtime_with("Mine", all, &type);
    rm_pipeline *pipeline = only(runtime, "");
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = begin(run_often, pipeline);
    for (int i = 0; i < 4; i++)
        join(threads[i]);
    CHECK(type.inits == 200 && type.cleanups == 200);
    rm_pipeline_free(pipeline);
    rm_runtime_free(runtime);
    CHECK(type.destroys == 1);
}

/* Finishes what there is, now and then late or badly, until there is no task in what it takes. */
static void *finish_tasks(void *unused) {
    for (unsigned times = 1;; times++) {
        struct work work = take();
        if (!work.task) return unused;
        if (times % 3 == 0) pause_ms(1);
        rm_data *value = json("1");
        rm_status status = rm_task_emit(work.task, value, NULL);
        CHECK(status == RM_OK || status == RM_E_CANCELLED);
        rm_data_free(value);
        rm_task_finish(work.task, times % 5 ? RM_OK : RM_E_IO, NULL);
    }
}

/* Runs that end in every possible way, at any moment, while others finish their tasks. */
static void nothing_is_lost_whatever_ends_first(void) {
    type type = {0};
    rm_runtime *runtime = runtime_with("Mine", later(), &type);
    rm_pipeline *pipeline =
        only(runtime, ", \"parallelism\": 4, \"timeout\": 0.01, \"on_error\": \"skip\"");
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = begin(finish_tasks, NULL);
    for (int i = 0; i < 150; i++) {
        rm_run *run = NULL;
        OK(rm_run_open(pipeline, 0, -1, &run, &error));
        for (uint64_t item = 0; item < 8; item++)
            push(run, "1", item);
        if (i % 3 == 0) OK(rm_run_interrupt(run, &error));
        if (i % 4 == 1) rm_run_cancel(run);
        if (i % 4 == 2) {
            rm_data *result = NULL;
            OK(rm_run_end(run, &error));
            OK(rm_run_wait(run, -1, &result, NULL, &error));
            rm_data_free(result);
        }
        if (i % 7 == 0) pause_ms(1);
        rm_run_free(run);
    }
    rm_pipeline_free(pipeline);
    rm_runtime_free(runtime);
    until(&type.destroys, 1); /* so every task is finished */
    CHECK(type.cleanups == type.inits && type.inits > 0);
    for (int i = 0; i < 3; i++)
        put(NULL, 0, NULL);
    for (int i = 0; i < 3; i++)
        join(threads[i]);
}

/* Says on which thread it is called. */
static void where(void *state, const rm_data *input, rm_task *task) {
    (void)input;
    *(pthread_t *)state = pthread_self();
    rm_task_finish(task, RM_OK, NULL);
}

static void callbacks_come_on_the_threads_that_the_flags_say(void) {
    const uint32_t flags[] = {0, RM_NODE_HEAVY, RM_NODE_WAITS};
    for (size_t i = 0; i < 3; i++) {
        pthread_t thread = pthread_self();
        rm_node_vtable vtable = only_process;
        vtable.process = where;
        vtable.flags = flags[i];
        rm_runtime *runtime = runtime_with("Mine", vtable, &thread);
        rm_data *info = NULL;
        rm_run *run = NULL;
        rm_pipeline *pipeline = only(runtime, "");
        OK(rm_pipeline_info(pipeline, &info, &error));
        CHECK(says(info, flags[i] == RM_NODE_HEAVY ? "\"heavy\":true" : "\"heavy\":false"));
        OK(rm_run_open(pipeline, 0, -1, &run, &error));
        push(run, "1", 0);
        OK(rm_run_end(run, &error));
        has_ended(run);
        CHECK(!pthread_equal(thread, pthread_self()) == (flags[i] != 0));
        rm_run_free(run);
        rm_pipeline_free(pipeline);
        rm_runtime_free(runtime);
    }
}

static void joins_and_queues_are_the_manifests(void) {
    for (uint32_t flags = 0; flags <= RM_NODE_WAITS; flags++) {
        int calls = 0;
        rm_node_vtable vtable = only_process;
        vtable.flags = flags;
        rm_runtime *runtime = runtime_with("Mine", vtable, &calls);
        rm_pipeline *pipeline =
            pipeline_of(runtime,
                        "{\"id\": \"a\", \"node_type\": \"Mine\"},"
                        "{\"id\": \"b\", \"node_type\": \"Add\", \"params\": {\"addend\": 1}},"
                        "{\"id\": \"c\", \"node_type\": \"Mine\", \"join\": \"zip\"}",
                        "{\"from\": \"a\", \"to\": \"c\"},"
                        "{\"from\": \"b\", \"to\": \"c\", \"queue\": {\"items\": 1}}");
        runs(pipeline, "[1, 2, 3]", "[[1,2],[2,3],[3,4]]");
        CHECK(calls == 6);
        rm_pipeline_free(pipeline);
        rm_runtime_free(runtime);
    }
}

static void null_is_no_task(void) {
    rm_data *value = json("1");
    FAILS(RM_E_ARGUMENT, rm_task_emit(NULL, value, &error));
    FAILS_WITH(RM_E_ARGUMENT, "another kind", rm_task_emit((rm_task *)value, value, &error));
    CHECK(rm_task_cancelled(NULL) == RM_E_ARGUMENT);
    rm_task_finish(NULL, RM_OK, NULL);
    rm_task_finish((rm_task *)value, RM_OK, NULL); /* left alone */
    rm_data_free(value);
}

static void a_host_makes_errors_of_its_own(void) {
    const struct {
        rm_status code, becomes;
        const char *message, *hint, *json;
    } errors[] = {
        {RM_E_IO, RM_E_IO, "a", "b", "{\"code\":\"RM_E_IO\",\"message\":\"a\",\"hint\":\"b\"}"},
        {-99, RM_E_NODE, "", NULL, "{\"code\":\"RM_E_NODE\",\"message\":\"\"}"},
        {RM_OK, RM_E_NODE, "\xff", "", "{\"code\":\"RM_E_NODE\",\"message\":\"\xef\xbf\xbd\"}"},
    };
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        const char *hint = errors[i].hint;
        rm_error *made =
            rm_error_new(errors[i].code, TEXT(errors[i].message), hint, hint ? strlen(hint) : 0);
        CHECK(rm_error_code(made) == errors[i].becomes);
        CHECK(strcmp(rm_error_json(made, NULL), errors[i].json) == 0);
        rm_error_free(made);
    }
    rm_error *made = rm_error_new(RM_E_IO, NULL, 3, NULL, 3);
    CHECK(rm_error_code(made) == RM_E_IO && strstr(rm_error_json(made, NULL), "is NULL"));
    rm_error_free(made);
}

int main(void) {
    RUN(a_node_works_among_the_librarys);
    RUN(only_process_is_needed);
    RUN(what_cannot_be_registered_says_why);
    RUN(a_type_is_there_from_then_on);
    RUN(parameters_are_checked_and_completed);
    RUN(a_failure_is_told_with_its_place);
    RUN(what_to_do_after_a_failure_is_the_manifests);
    RUN(tasks_may_be_finished_later_and_by_anybody);
    RUN(several_states_share_the_work_in_order);
    RUN(nothing_waits_for_a_task_that_is_finished_late);
    RUN(an_init_may_be_late_as_well);
    RUN(two_tasks_never_have_one_state);
    RUN(the_time_of_a_run_ends_though_a_task_is_out);
    RUN(who_works_for_long_sees_that_it_is_not_wanted);
    RUN(interrupt_forgets_what_is_held);
    RUN(who_promises_to_finish_at_once_has_to);
    RUN(a_task_gives_no_more_than_the_limit);
    RUN(callbacks_may_call_the_library);
    RUN(memory_of_a_node_is_used_where_it_is);
    RUN(every_run_has_states_of_its_own);
    RUN(nothing_is_lost_whatever_ends_first);
    RUN(callbacks_come_on_the_threads_that_the_flags_say);
    RUN(joins_and_queues_are_the_manifests);
    RUN(null_is_no_task);
    RUN(a_host_makes_errors_of_its_own);
    return 0;
}
