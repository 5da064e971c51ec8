/* What the C tests are written with. A program is a list of promises of the header; a test shows
 * one of them, and leaves no object behind. */
#ifndef CHECK_H
#define CHECK_H

#define _POSIX_C_SOURCE 200809L

#include "remotemedia.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The last argument of every call under OK, AGAIN and FAILS. A thread declares one of its own. */
static rm_error *error;

/* Texts as the library takes them: pointer and length. */
#define TEXT(text) (text), strlen(text)

#define CHECK(promise) ((promise) ? (void)0 : broken(__FILE__, __LINE__, #promise))
#define OK(call) expect(__FILE__, __LINE__, #call, RM_OK, NULL, (call), &error)
#define AGAIN(call) expect(__FILE__, __LINE__, #call, RM_AGAIN, NULL, (call), &error)
#define FAILS(code, call) expect(__FILE__, __LINE__, #call, code, NULL, (call), &error)
/* The error's JSON has this text in it. */
#define FAILS_WITH(code, text, call) expect(__FILE__, __LINE__, #call, code, text, (call), &error)

static inline void broken(const char *file, int line, const char *promise) {
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, promise);
    _exit(1);
}

/* The call returned this status and, only if that is a failure, an error object that says so. */
static inline void expect(const char *file, int line, const char *call, rm_status wanted,
                          const char *text, rm_status got, rm_error **failure) {
    const char *json = rm_error_json(*failure, NULL);
    bool told = *failure ? rm_error_code(*failure) == got : got >= 0;
    if (got != wanted || !told || (text && !strstr(json, text))) {
        fprintf(stderr, "%s:%d: %s gives %d, not %d: %s\n", file, line, call, got, wanted,
                json ? json : "no error");
        _exit(1);
    }
    rm_error_free(*failure);
    *failure = NULL;
}

/* What the library gives for a value, to look at. */
static inline rm_view view_of(const rm_data *data) {
    rm_view view = {.struct_size = sizeof view};
    OK(rm_data_view(data, &view, &error));
    return view;
}

static inline rm_data *json(const char *text) {
    rm_view view = {.struct_size = sizeof view, .kind = RM_JSON, .json = text};
    view.json_len = strlen(text);
    rm_data *data = NULL;
    OK(rm_data_new(&view, NULL, NULL, &data, &error));
    return data;
}

/* Whether the value is this JSON text; takes the value away. */
static inline bool gives(rm_data *data, const char *text) {
    rm_view view = view_of(data);
    bool same = view.json_len == strlen(text) && strcmp(view.json, text) == 0;
    if (!same) fprintf(stderr, "%s, not %s\n", view.json, text);
    rm_data_free(data);
    return same;
}

/* Whether the value's JSON has this text in it; takes the value away. */
static inline bool says(rm_data *data, const char *text) {
    const char *json = view_of(data).json;
    bool found = strstr(json, text) != NULL;
    if (!found) fprintf(stderr, "%s does not say %s\n", json, text);
    rm_data_free(data);
    return found;
}

/* A pipeline of one node that is called "n". */
static inline rm_pipeline *one_node(rm_runtime *runtime, const char *type, const char *params) {
    char manifest[500];
    snprintf(manifest, sizeof manifest,
             "{\"version\": \"v1\", \"nodes\": [{\"id\": \"n\", \"node_type\": \"%s\", "
             "\"params\": %s}], \"connections\": []}",
             type, params);
    rm_pipeline *pipeline = NULL;
    OK(rm_pipeline_new(runtime, TEXT(manifest), &pipeline, &error));
    return pipeline;
}

/* Runs that are fed: an item in, as JSON, and an output out. */
static inline rm_status try_push(rm_run *run, const char *item, const char *node,
                                 int64_t timeout_ms, uint64_t *number, rm_error **failure) {
    rm_view view = {.struct_size = sizeof view, .kind = RM_JSON, .json = item};
    view.json_len = strlen(item);
    rm_data *data = NULL;
    CHECK(rm_data_new(&view, NULL, NULL, &data, NULL) == RM_OK);
    size_t len = node ? strlen(node) : 0;
    rm_status status = rm_run_push(run, data, node, len, timeout_ms, number, failure);
    rm_data_free(data);
    return status;
}

static inline void push(rm_run *run, const char *item, uint64_t wanted) {
    uint64_t number = 99;
    OK(try_push(run, item, NULL, -1, &number, &error));
    CHECK(number == wanted);
}

static inline rm_status pull(rm_run *run, int64_t timeout_ms, rm_output *output) {
    uint32_t count = 99;
    memset(output, 'x', sizeof *output);
    output->struct_size = sizeof *output;
    rm_status status = rm_run_pull(run, timeout_ms, output, 1, &count, &error);
    CHECK(count == (status == RM_OK));
    return status;
}

/* The next output is this. */
static inline void pulls(rm_run *run, uint32_t node, int64_t item, const char *text) {
    rm_output output;
    OK(pull(run, -1, &output));
    CHECK(output.struct_size == sizeof output && output.node == node && output.item == item);
    CHECK(gives(output.data, text));
}

static inline void has_ended(rm_run *run) {
    rm_output output;
    for (int times = 0; times < 2; times++)
        CHECK(pull(run, -1, &output) == RM_END && error == NULL);
}

static inline double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static inline void pause_ms(long milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static inline pthread_t begin(void *(*work)(void *), void *argument) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, work, argument) == 0);
    return thread;
}

static inline void join(pthread_t thread) {
    CHECK(pthread_join(thread, NULL) == 0);
}

/* How many objects of each type are alive, as text. */
static inline void count_handles(char *text, size_t size) {
    rm_data *count = NULL;
    OK(rm_runtime_query(NULL, TEXT("handles"), &count, &error));
    snprintf(text, size, "%s", view_of(count).json);
    rm_data_free(count);
}

#define RUN(test) run_test(#test, test)

/* Returns once another thread waits for the run. */
static inline void until_busy(rm_run *run) {
    for (rm_status status = RM_OK; status != RM_E_BUSY; pause_ms(1)) {
        rm_data *result = (rm_data *)&result;
        status = rm_run_wait(run, 0, &result, NULL, NULL);
        CHECK((status == RM_AGAIN || status == RM_E_BUSY) && result == NULL);
    }
}

static inline void *wait_until_cancelled(void *run) {
    rm_error *error = NULL;
    rm_data *result = NULL, *report = NULL;
    rm_status status = RM_E_BUSY;
    while (status == RM_E_BUSY) { /* while the other looks whether this one waits */
        rm_error_free(error);
        result = (rm_data *)&result, report = (rm_data *)&report;
        status = rm_run_wait(run, -1, &result, &report, &error);
    }
    FAILS_WITH(RM_E_CANCELLED, "\"node\":\"n\"", status);
    CHECK(result == NULL && report == NULL);
    return NULL;
}

static inline void run_test(const char *name, void (*test)(void)) {
    static char before[300];
    char after[300];
    if (!*before) {
        rm_data *limits = NULL; /* the default runtime exists from here on */
        OK(rm_runtime_query(NULL, TEXT("limits"), &limits, &error));
        rm_data_free(limits);
        count_handles(before, sizeof before);
    }
    test();
    count_handles(after, sizeof after);
    if (strcmp(before, after) != 0) {
        fprintf(stderr, "%s leaves objects behind: %s\n", name, after);
        _exit(1);
    }
    printf("ok %s\n", name);
    fflush(stdout);
}

#endif
