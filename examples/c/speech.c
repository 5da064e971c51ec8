/* Finds the speech in recordings, shows how far it is, and prints what it found as JSON.
 *
 *     cc speech.c -o speech $(remotemedia config --cflags --libs)
 *     ./speech ../speech/speech.json ../data/austen-0870.wav
 */
#include <remotemedia.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the program if a call has failed; the error says what, where and what to do about it. */
static void check(rm_status status, rm_error **error) {
    if (status < 0) {
        fprintf(stderr, "%s\n", rm_error_json(*error, NULL));
        exit(1);
    }
}

static rm_data *make(rm_view view) {
    rm_data *data = NULL;
    rm_error *error = NULL;
    check(rm_data_new(&view, NULL, NULL, &data, &error), &error);
    return data;
}

static rm_data *text(char *text) {
    rm_view view = {.struct_size = sizeof view, .kind = RM_TEXT, .data = text};
    view.byte_len = strlen(text);
    return make(view);
}

/* A batch of items: [{"$rm": 0}, {"$rm": 1}, ...], each of which stands for one of the children. */
static rm_data *batch(rm_data *const *children, uint32_t count) {
    char *json = malloc(count * 20 + 3), *end = json;
    end += sprintf(end, "[");
    for (uint32_t i = 0; i < count; i++)
        end += sprintf(end, "%s{\"$rm\": %u}", i ? "," : "", (unsigned)i);
    end += sprintf(end, "]");
    rm_view view = {.struct_size = sizeof view, .kind = RM_JSON, .json = json};
    view.json_len = (size_t)(end - json);
    view.children = children;
    view.child_count = count;
    rm_data *data = make(view);
    free(json);
    return data;
}

static char *read_file(const char *name, size_t *len) {
    FILE *file = fopen(name, "rb");
    if (!file) {
        perror(name);
        exit(1);
    }
    char *content = malloc(1 << 20);
    *len = fread(content, 1, 1 << 20, file);
    fclose(file);
    return content;
}

/* How many items are done. The report is JSON, of which one number is wanted here. */
static int items_done(rm_run *run) {
    rm_data *report = NULL;
    rm_error *error = NULL;
    rm_view view = {.struct_size = sizeof view};
    check(rm_run_report(run, &report, &error), &error);
    check(rm_data_view(report, &view, &error), &error);
    int done = atoi(strstr(view.json, "\"items_done\":") + strlen("\"items_done\":"));
    rm_data_free(report);
    return done;
}

int main(int count, char **arguments) {
    if (count < 3) {
        fprintf(stderr, "usage: speech MANIFEST RECORDING...\n");
        return 2;
    }
    int items = count - 2;
    rm_data **paths = malloc((size_t)items * sizeof *paths);
    for (int i = 0; i < items; i++)
        paths[i] = text(arguments[2 + i]);
    rm_data *input = batch(paths, (uint32_t)items);

    size_t len = 0;
    char *manifest = read_file(arguments[1], &len);
    rm_pipeline *pipeline = NULL;
    rm_run *run = NULL;
    rm_error *error = NULL;
    check(rm_pipeline_new(NULL, manifest, len, &pipeline, &error), &error);
    check(rm_run_start(pipeline, input, -1, &run, &error), &error);

    /* This thread does the work, a tenth of a second at a time. */
    rm_data *result = NULL;
    rm_status status;
    while ((status = rm_run_wait(run, 100, &result, NULL, &error)) == RM_AGAIN)
        fprintf(stderr, "\r%3d%%", 100 * items_done(run) / items);
    check(status, &error);
    fprintf(stderr, "\r100%%\n");

    rm_view view = {.struct_size = sizeof view};
    check(rm_data_view(result, &view, &error), &error);
    printf("%s\n", view.json);

    rm_data_free(result);
    rm_run_free(run);
    rm_pipeline_free(pipeline);
    rm_data_free(input);
    for (int i = 0; i < items; i++)
        rm_data_free(paths[i]);
    free(paths);
    free(manifest);
    return 0;
}
