/* The arithmetic example from C: adds 5 to three numbers and prints [6,7,8].
 *
 *     cc arithmetic.c -o arithmetic $(remotemedia config --cflags --libs) && ./arithmetic
 */
#include <remotemedia.h>

#include <stdio.h>
#include <string.h>

static const char manifest[] = "{\"version\": \"v1\","
                               " \"nodes\": ["
                               "  {\"id\": \"pass1\", \"node_type\": \"PassThrough\"},"
                               "  {\"id\": \"calc\", \"node_type\": \"Calculator\","
                               "   \"params\": {\"operation\": \"add\", \"operand\": 5}},"
                               "  {\"id\": \"pass2\", \"node_type\": \"PassThrough\"}],"
                               " \"connections\": ["
                               "  {\"from\": \"pass1\", \"to\": \"calc\"},"
                               "  {\"from\": \"calc\", \"to\": \"pass2\"}]}";

int main(void) {
    const char input[] = "[1, 2, 3]";
    rm_data *result = NULL;
    rm_error *error = NULL;
    rm_view view = {.struct_size = sizeof view};

    rm_status status =
        rm_run_manifest(manifest, strlen(manifest), input, strlen(input), &result, &error);
    if (status == RM_OK) status = rm_data_view(result, &view, &error);
    if (status == RM_OK)
        printf("%s\n", view.json);
    else
        fprintf(stderr, "%s\n", rm_error_json(error, NULL));

    rm_error_free(error);
    rm_data_free(result);
    return status == RM_OK ? 0 : 1;
}
