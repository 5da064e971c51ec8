/* Runs a manifest: run_case MANIFEST [INPUT], both files of JSON text. Prints
 * {"output": ...} or {"error": ...}. */
#include "remotemedia.h"

#include <stdio.h>
#include <stdlib.h>

static char *read_file(const char *name, size_t *len) {
    FILE *file = fopen(name, "rb");
    char *text = NULL;
    size_t held = 0, got = 0;
    if (!file) {
        perror(name);
        exit(2);
    }
    do {
        held += got;
        text = realloc(text, held + 65536);
    } while ((got = fread(text + held, 1, 65536, file)) > 0);
    fclose(file);
    *len = held;
    return text;
}

int main(int count, char **names) {
    size_t manifest_len = 0, input_len = 0;
    char *manifest = count > 1 ? read_file(names[1], &manifest_len) : NULL;
    char *input = count > 2 ? read_file(names[2], &input_len) : NULL;
    rm_data *result = NULL;
    rm_error *error = NULL;
    rm_view view = {.struct_size = sizeof view};
    if (rm_run_manifest(manifest, manifest_len, input, input_len, &result, &error) == RM_OK &&
        rm_data_view(result, &view, &error) == RM_OK)
        printf("{\"output\": %s}\n", view.json);
    else
        printf("{\"error\": %s}\n", rm_error_json(error, NULL));
    rm_data_free(result);
    rm_error_free(error);
    free(manifest);
    free(input);
    return 0;
}
