/* Versions and rm_error. */
#include "check.h"

static void the_library_says_what_it_is(void) {
    uint32_t version = rm_abi_version();
    CHECK(version >> 16 == RM_ABI_MAJOR && (version & 0xffff) == RM_ABI_MINOR);
    rm_data *info = json(rm_build_info());
    char abi[40];
    snprintf(abi, sizeof abi, "\"abi\":\"%u.%u\"", version >> 16, version & 0xffff);
    CHECK(strstr(view_of(info).json, abi) && strstr(view_of(info).json, "\"target\":\""));
    CHECK(says(info, "\"version\":\""));
    CHECK(rm_build_info() == rm_build_info()); /* static */
}

static void an_error_says_what_where_and_what_to_do(void) {
    const char *manifest = "{\"version\": \"v1\", \"nodes\": [{\"id\": \"a\", \"node_type\": "
                           "\"PassTrough\"}], \"connections\": []}";
    rm_pipeline *pipeline = NULL;
    rm_error *failure = NULL;
    CHECK(rm_pipeline_new(NULL, TEXT(manifest), &pipeline, &failure) == RM_E_MANIFEST);
    CHECK(rm_error_code(failure) == RM_E_MANIFEST);
    size_t len = 0;
    const char *text = rm_error_json(failure, &len);
    CHECK(strlen(text) == len);
    CHECK(rm_error_json(failure, NULL) == text); /* lives as long as the error */
    CHECK(strstr(text, "\"code\":\"RM_E_MANIFEST\"") && strstr(text, "\"message\":\""));
    CHECK(strstr(text, "\"pointer\":\"/nodes/0/node_type\"") && strstr(text, "PassThrough"));
    rm_error_free(failure);
}

static void null_has_no_error_in_it(void) {
    size_t len = 7;
    CHECK(rm_error_json(NULL, &len) == NULL && len == 0);
    CHECK(rm_error_json(NULL, NULL) == NULL);
    CHECK(rm_error_code(NULL) == RM_E_ARGUMENT);
    rm_error_free(NULL);
    rm_error_free(NULL);
}

static void other_objects_are_told_apart(void) {
    rm_data *data = json("1");
    size_t len = 7;
    CHECK(rm_error_json((rm_error *)data, &len) == NULL && len == 0);
    CHECK(rm_error_code((rm_error *)data) == RM_E_ARGUMENT);
    rm_error_free((rm_error *)data);
    CHECK(gives(data, "1"));
}

static void success_clears_the_error_and_nobody_has_to_ask_for_it(void) {
    rm_error *failure = (rm_error *)&failure;
    rm_queue *queue = NULL;
    CHECK(rm_queue_new(&queue, &failure) == RM_OK);
    CHECK(failure == NULL);
    CHECK(rm_queue_new(NULL, NULL) == RM_E_ARGUMENT);
    rm_queue_free(queue);
}

static void a_place_is_cleared_whatever_is_in_it(void) {
    rm_clear(NULL);
    rm_error *none = NULL;
    rm_clear(&none);
    rm_runtime *runtime = NULL;
    rm_pipeline *pipeline = NULL;
    rm_run *run = NULL;
    rm_queue *queue = NULL;
    rm_data *data = json("[1]");
    const char *manifest =
        "{\"version\": \"v1\", \"nodes\": [{\"id\": \"n\", \"node_type\": \"PassThrough\"}]}";
    OK(rm_runtime_new(NULL, 0, &runtime, &error));
    OK(rm_pipeline_new(runtime, TEXT(manifest), &pipeline, &error));
    OK(rm_run_start(pipeline, data, -1, &run, &error));
    OK(rm_queue_new(&queue, &error));
    rm_error *failure = NULL;
    CHECK(rm_run_report(NULL, NULL, &failure) == RM_E_ARGUMENT);
    void *places[] = {&runtime, &pipeline, &run, &queue, &data, &failure};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        rm_clear(places[i]);
        CHECK(*(void **)places[i] == NULL);
        rm_clear(places[i]);
    }
}

int main(void) {
    RUN(the_library_says_what_it_is);
    RUN(an_error_says_what_where_and_what_to_do);
    RUN(null_has_no_error_in_it);
    RUN(other_objects_are_told_apart);
    RUN(success_clears_the_error_and_nobody_has_to_ask_for_it);
    RUN(a_place_is_cleared_whatever_is_in_it);
    return 0;
}
