/* rm_pipeline and rm_run_manifest. */
#include "check.h"

/* add_two and add_ten, side by side, each a source and a sink. */
static const char two_sources[] =
    "{\"version\": \"v1\", \"metadata\": {\"name\": \"two\"}, \"nodes\": ["
    "{\"id\": \"add_two\", \"node_type\": \"Calculator\","
    " \"params\": {\"operation\": \"add\", \"operand\": 2}},"
    "{\"id\": \"add_ten\", \"node_type\": \"CalculatorNode\","
    " \"params\": {\"operation\": \"add\", \"operand\": 10}}], \"connections\": []}";

static rm_pipeline *load(const char *manifest) {
    rm_pipeline *pipeline = NULL;
    OK(rm_pipeline_new(NULL, TEXT(manifest), &pipeline, &error));
    return pipeline;
}

static rm_data *run(const rm_pipeline *pipeline, const char *items) {
    rm_data *input = json(items), *result = NULL;
    OK(rm_pipeline_run(pipeline, input, -1, &result, NULL, &error));
    rm_data_free(input);
    return result;
}

/* The pipeline fails on this input with an error that says this. */
static void fails(const rm_pipeline *pipeline, const char *items, rm_status code,
                  const char *text) {
    rm_data *input = json(items);
    rm_data *result = (rm_data *)&result, *report = (rm_data *)&report;
    FAILS_WITH(code, text, rm_pipeline_run(pipeline, input, -1, &result, &report, &error));
    CHECK(result == NULL && report == NULL);
    rm_data_free(input);
}

static void null_is_refused_and_outs_are_null(void) {
    rm_pipeline *pipeline = (rm_pipeline *)&pipeline;
    FAILS(RM_E_ARGUMENT, rm_pipeline_new(NULL, NULL, 5, &pipeline, &error));
    CHECK(pipeline == NULL);
    FAILS(RM_E_ARGUMENT, rm_pipeline_new(NULL, TEXT(two_sources), NULL, &error));
    CHECK(rm_pipeline_new(NULL, TEXT(two_sources), NULL, NULL) == RM_E_ARGUMENT);

    pipeline = load(two_sources);
    rm_data *out = (rm_data *)&out, *report = (rm_data *)&report;
    FAILS(RM_E_ARGUMENT, rm_pipeline_info(pipeline, NULL, &error));
    FAILS(RM_E_ARGUMENT, rm_pipeline_info(NULL, &out, &error));
    CHECK(out == NULL);
    out = (rm_data *)&out;
    FAILS(RM_E_ARGUMENT, rm_pipeline_run(NULL, NULL, -1, &out, &report, &error));
    CHECK(out == NULL && report == NULL);
    report = (rm_data *)&report;
    FAILS(RM_E_ARGUMENT, rm_pipeline_run(pipeline, NULL, -1, NULL, &report, &error));
    CHECK(report == NULL);
    CHECK(rm_pipeline_run(NULL, NULL, 0, NULL, NULL, NULL) == RM_E_ARGUMENT);
    rm_pipeline_free(pipeline);
    rm_pipeline_free(NULL);
    rm_pipeline_free(NULL);
}

static void manifests_are_checked(void) {
    const struct {
        rm_status code;
        const char *manifest, *text;
    } wrong[] = {
        {RM_E_JSON, "", "message"},
        {RM_E_JSON, "{", "message"},
        {RM_E_UTF8, "{\"version\": \"\xff\"}", "byte"},
        {RM_E_MANIFEST, "[]", "message"},
        {RM_E_MANIFEST, "{}", "version"},
        {RM_E_MANIFEST, "{\"version\": \"v2\", \"nodes\": [], \"connections\": []}", "/version"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        rm_pipeline *pipeline = (rm_pipeline *)&pipeline;
        rm_data *result = (rm_data *)&result;
        FAILS_WITH(wrong[i].code, wrong[i].text,
                   rm_pipeline_new(NULL, TEXT(wrong[i].manifest), &pipeline, &error));
        CHECK(pipeline == NULL);
        FAILS(wrong[i].code, rm_run_manifest(TEXT(wrong[i].manifest), NULL, 0, &result, &error));
        CHECK(result == NULL);
    }
    static char large[(1 << 20) + 2], deep[200];
    memset(large, ' ', sizeof large - 1);
    memset(deep, '[', sizeof deep - 1);
    rm_pipeline *pipeline = NULL;
    FAILS(RM_E_LIMIT, rm_pipeline_new(NULL, TEXT(large), &pipeline, &error));
    FAILS(RM_E_LIMIT, rm_pipeline_new(NULL, TEXT(deep), &pipeline, &error));
}

static void a_manifest_needs_no_nul(void) {
    char *exact = malloc(strlen(two_sources)); /* the sanitizer watches its end */
    memcpy(exact, two_sources, strlen(two_sources));
    rm_pipeline *pipeline = NULL;
    OK(rm_pipeline_new(NULL, exact, strlen(two_sources), &pipeline, &error));
    free(exact);
    CHECK(gives(run(pipeline, "[1]"), "[3,11]"));
    rm_pipeline_free(pipeline);
}

static void a_pipeline_says_what_it_consists_of(void) {
    rm_pipeline *pipeline = load(two_sources);
    rm_data *info = NULL;
    OK(rm_pipeline_info(pipeline, &info, &error));
    CHECK(gives(info, "{\"name\":\"two\",\"stages\":1,\"threaded\":false,\"nodes\":["
                      "{\"id\":\"add_two\",\"node_type\":\"Calculator\",\"heavy\":false,"
                      "\"source\":true,\"sink\":true},"
                      "{\"id\":\"add_ten\",\"node_type\":\"CalculatorNode\",\"heavy\":false,"
                      "\"source\":true,\"sink\":true}]}"));
    rm_pipeline_free(pipeline);
}

static void items_go_to_all_sources_or_to_each_its_own(void) {
    rm_pipeline *pipeline = load(two_sources);
    CHECK(gives(run(pipeline, "[]"), "[]"));
    CHECK(gives(run(pipeline, "[1,2]"), "[3,4,11,12]"));
    CHECK(gives(run(pipeline, "{\"add_ten\":[1]}"), "[11]"));
    CHECK(gives(run(pipeline, "{}"), "[]"));
    rm_data *result = NULL;
    OK(rm_pipeline_run(pipeline, NULL, -1, &result, NULL, &error)); /* no items */
    CHECK(gives(result, "[]"));
    rm_pipeline_free(pipeline);
}

static void inputs_of_another_shape_are_refused(void) {
    rm_pipeline *pipeline = load(two_sources);
    fails(pipeline, "1", RM_E_ARGUMENT, "list");
    fails(pipeline, "{\"add_twenty\":[1]}", RM_E_ARGUMENT, "\"pointer\":\"/add_twenty\"");
    fails(pipeline, "{\"add_ten\":1}", RM_E_ARGUMENT, "\"pointer\":\"/add_ten\"");
    rm_pipeline_free(pipeline);
}

static void a_failure_names_the_node_and_the_item(void) {
    rm_pipeline *pipeline = load(two_sources);
    fails(pipeline, "[1,\"x\"]", RM_E_NODE, "\"node\":\"add_two\"");
    fails(pipeline, "{\"add_ten\":[1,2,\"x\"]}", RM_E_NODE, "\"item\":2");
    CHECK(gives(run(pipeline, "[1]"), "[3,11]")); /* and it can be run again */
    rm_pipeline_free(pipeline);
}

static void a_report_comes_along_if_wanted(void) {
    rm_pipeline *pipeline = load(two_sources);
    rm_data *input = json("[1,2]"), *result = NULL, *report = NULL;
    OK(rm_pipeline_run(pipeline, input, -1, &result, &report, &error));
    CHECK(gives(result, "[3,4,11,12]"));
    CHECK(strstr(view_of(report).json, "\"items\":2,\"items_done\":2"));
    CHECK(says(report, "\"sinks\":{\"add_two\":2,\"add_ten\":2}"));
    rm_data_free(input);
    rm_pipeline_free(pipeline);
}

static void time_runs_out(void) {
    rm_pipeline *pipeline = one_node(NULL, "Delay", "{\"seconds\": 600}");
    rm_data *input = json("[1]"), *result = NULL;
    double start = seconds();
    FAILS_WITH(RM_E_TIMEOUT, "\"node\":\"n\"",
               rm_pipeline_run(pipeline, input, 20, &result, NULL, &error));
    FAILS(RM_E_TIMEOUT, rm_pipeline_run(pipeline, input, 0, &result, NULL, &error));
    CHECK(seconds() - start < 10);
    rm_data_free(input);
    rm_pipeline_free(pipeline);

    pipeline = one_node(NULL, "Delay", "{\"seconds\": 0.01}");
    input = json("[1]");
    OK(rm_pipeline_run(pipeline, input, INT64_MAX, &result, NULL, &error));
    CHECK(gives(result, "[1]"));
    rm_data_free(input);
    rm_pipeline_free(pipeline);
}

static void other_objects_are_told_apart(void) {
    rm_pipeline *pipeline = load(two_sources);
    rm_data *data = json("[1]"), *out = (rm_data *)&out;
    FAILS(RM_E_ARGUMENT, rm_pipeline_info((rm_pipeline *)data, &out, &error));
    CHECK(out == NULL);
    FAILS(RM_E_ARGUMENT, rm_pipeline_run((rm_pipeline *)data, data, -1, &out, NULL, &error));
    FAILS(RM_E_ARGUMENT, rm_pipeline_run(pipeline, (rm_data *)pipeline, -1, &out, NULL, &error));
    rm_pipeline_free((rm_pipeline *)data);
    CHECK(gives(data, "[1]"));
    rm_pipeline_free(pipeline);
}

static void all_in_one_call(void) {
    rm_data *result = NULL;
    OK(rm_run_manifest(TEXT(two_sources), TEXT("[1, 2, 3]"), &result, &error));
    CHECK(gives(result, "[3,4,5,11,12,13]"));
    OK(rm_run_manifest(TEXT(two_sources), NULL, 0, &result, &error));
    CHECK(gives(result, "[]"));

    result = (rm_data *)&result;
    FAILS(RM_E_JSON, rm_run_manifest(TEXT(two_sources), TEXT("[1,"), &result, &error));
    CHECK(result == NULL);
    FAILS(RM_E_UTF8, rm_run_manifest(TEXT(two_sources), TEXT("[\"\xff\"]"), &result, &error));
    FAILS(RM_E_NODE, rm_run_manifest(TEXT(two_sources), TEXT("[\"x\"]"), &result, &error));
    FAILS(RM_E_ARGUMENT, rm_run_manifest(TEXT(two_sources), TEXT("1"), &result, &error));
    FAILS(RM_E_ARGUMENT, rm_run_manifest(TEXT(two_sources), NULL, 5, &result, &error));
    FAILS(RM_E_ARGUMENT, rm_run_manifest(NULL, 5, TEXT("[1]"), &result, &error));
    FAILS(RM_E_ARGUMENT, rm_run_manifest(TEXT(two_sources), TEXT("[1]"), NULL, &error));
    CHECK(rm_run_manifest(NULL, 0, NULL, 0, NULL, NULL) == RM_E_ARGUMENT);
}

static void a_result_that_grows_deeper_every_time_meets_a_limit(void) {
    rm_pipeline *pipeline = one_node(NULL, "Buffer", "{\"buffer_size\": 1}");
    rm_data *value = json("[1]");
    rm_status status = RM_OK;
    for (int times = 0; status == RM_OK; times++) {
        rm_data *result = NULL;
        status = rm_pipeline_run(pipeline, value, -1, &result, NULL, &error);
        rm_data_free(value);
        value = result;
        CHECK(times < 1000);
    }
    FAILS(RM_E_LIMIT, status);
    rm_pipeline_free(pipeline);
}

int main(void) {
    RUN(null_is_refused_and_outs_are_null);
    RUN(manifests_are_checked);
    RUN(a_manifest_needs_no_nul);
    RUN(a_pipeline_says_what_it_consists_of);
    RUN(items_go_to_all_sources_or_to_each_its_own);
    RUN(inputs_of_another_shape_are_refused);
    RUN(a_failure_names_the_node_and_the_item);
    RUN(a_report_comes_along_if_wanted);
    RUN(time_runs_out);
    RUN(other_objects_are_told_apart);
    RUN(all_in_one_call);
    RUN(a_result_that_grows_deeper_every_time_meets_a_limit);
    return 0;
}
