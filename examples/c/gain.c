/* A node in C among the library's: makes a recording louder or softer and measures it.
 *
 *     cc gain.c -o gain -lm $(remotemedia config --cflags --libs)
 *     ./gain -6 ../data/austen-0870.wav
 *
 * The pipeline is AudioDecode, Gain, AudioLevel. Gain is the node of this file.
 */
#include <remotemedia.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Manifests are checked with this, as they are for the library's own nodes. */
static const char schema[] = "{\"type\": \"object\", \"properties\": {\"db\": {"
                             "\"type\": \"number\", \"minimum\": -100, \"maximum\": 40,"
                             " \"default\": 0}}}";

/* Makes the state of a node, the factor, from its parameters: {"db": -6}. */
static void init(void *user_data, const rm_data *params, void **state, rm_task *task) {
    (void)user_data;
    rm_view view = {.struct_size = sizeof view};
    rm_error *error = NULL;
    rm_status status = rm_data_view(params, &view, &error);
    if (status == RM_OK) {
        double *factor = malloc(sizeof *factor);
        *factor = pow(10, atof(strstr(view.json, "\"db\":") + 5) / 20);
        *state = factor;
    }
    rm_task_finish(task, status, error);
    rm_error_free(error);
}

/* Takes audio of float32 and gives the same in memory of its own, which the library frees. */
static void process(void *state, const rm_data *input, rm_task *task) {
    const double factor = *(double *)state;
    rm_view view = {.struct_size = sizeof view};
    rm_data *louder = NULL;
    rm_error *error = NULL;
    rm_status status = rm_data_view(input, &view, &error);
    if (status == RM_OK && (view.kind != RM_AUDIO || view.dtype_bits != 32)) {
        const char message[] = "the value is not audio of float32", hint[] = "decode it before";
        status = RM_E_NODE;
        error = rm_error_new(status, message, strlen(message), hint, strlen(hint));
    }
    if (status == RM_OK) {
        const float *samples = view.data;
        size_t count = view.byte_len / sizeof *samples;
        float *scaled = malloc(count ? view.byte_len : 1);
        for (size_t i = 0; i < count; i++)
            scaled[i] = (float)(samples[i] * factor);
        view.data = scaled; /* rate, shape and time stay as they are */
        status = rm_data_new(&view, free, scaled, &louder, &error);
        if (status != RM_OK) free(scaled);
    }
    if (status == RM_OK) status = rm_task_emit(task, louder, &error);
    rm_task_finish(task, status, error);
    rm_data_free(louder);
    rm_error_free(error);
}

static const rm_node_vtable gain = {
    .struct_size = sizeof gain,
    .flags = RM_NODE_HEAVY | RM_NODE_STATELESS,
    .params_schema = schema,
    .params_schema_len = sizeof schema - 1,
    .init = init,
    .process = process,
    .cleanup = free,
};

/* Ends the program if a call has failed; the error says what, where and what to do about it. */
static void check(rm_status status, rm_error **error) {
    if (status < 0) {
        fprintf(stderr, "%s\n", rm_error_json(*error, NULL));
        exit(1);
    }
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: gain DB RECORDING\n");
        return 2;
    }
    char manifest[1000];
    int len = snprintf(manifest, sizeof manifest,
                       "{\"version\": \"v1\", \"nodes\": ["
                       "{\"id\": \"decode\", \"node_type\": \"AudioDecode\"},"
                       "{\"id\": \"gain\", \"node_type\": \"Gain\", \"params\": {\"db\": %s}},"
                       "{\"id\": \"level\", \"node_type\": \"AudioLevel\"}],"
                       "\"connections\": [{\"from\": \"decode\", \"to\": \"gain\"},"
                       "{\"from\": \"gain\", \"to\": \"level\"}]}",
                       arguments[1]);
    if (len >= (int)sizeof manifest) {
        fprintf(stderr, "gain: the number is too long\n");
        return 2;
    }
    rm_error *error = NULL;
    check(rm_runtime_add_node(NULL, "Gain", 4, &gain, NULL, &error), &error);

    /* The batch is one item: the path. */
    rm_view path = {.struct_size = sizeof path, .kind = RM_TEXT, .data = arguments[2]};
    path.byte_len = strlen(arguments[2]);
    rm_data *item = NULL, *input = NULL, *result = NULL;
    check(rm_data_new(&path, NULL, NULL, &item, &error), &error);
    rm_view items = {.struct_size = sizeof items, .kind = RM_JSON, .json = "[{\"$rm\": 0}]"};
    items.json_len = strlen(items.json);
    items.children = &item;
    items.child_count = 1;
    check(rm_data_new(&items, NULL, NULL, &input, &error), &error);

    rm_pipeline *pipeline = NULL;
    check(rm_pipeline_new(NULL, manifest, (size_t)len, &pipeline, &error), &error);
    check(rm_pipeline_run(pipeline, input, -1, &result, NULL, &error), &error);
    rm_view view = {.struct_size = sizeof view};
    check(rm_data_view(result, &view, &error), &error);
    printf("%s\n", view.json);

    rm_data_free(result);
    rm_pipeline_free(pipeline);
    rm_data_free(input);
    rm_data_free(item);
    return 0;
}
