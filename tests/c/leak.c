/* Loses values if told to: shows that the leak checker sees what the library allocates. */
#include "check.h"

static void lose_some(void) {
    for (int i = 0; i < 10; i++)
        json("[\"lost\"]");
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], "lose") == 0) lose_some();
    /* Writes over what the stack still has of the last one, or that would count as found. */
    rm_data_free(json("[\"found\"]"));
    return 0;
}
