/* The log: rm_set_log, rm_queue and rm_event. */
#include "check.h"

static struct {
    int calls;
    int32_t level;
    char text[300];
} heard;

static void hear(void *user_data, int32_t level, const char *target, size_t target_len,
                 const char *message, size_t message_len) {
    CHECK(user_data == &heard);
    heard.calls++;
    heard.level = level;
    snprintf(heard.text, sizeof heard.text, "%.*s: %.*s", (int)target_len, target, (int)message_len,
             message);
}

/* The library logs an error when it is given the wrong object to free. */
static void provoke(void) {
    rm_data *data = json("1");
    rm_queue_free((rm_queue *)data);
    rm_data_free(data);
}

static rm_queue *queue_new(void) {
    rm_queue *queue = NULL;
    OK(rm_queue_new(&queue, &error));
    return queue;
}

static void put(rm_queue *queue, const char *message) {
    rm_queue_log(queue, RM_LOG_INFO, TEXT("host"), TEXT(message));
}

/* The next event is this JSON text. */
static void next_is(rm_queue *queue, const char *text) {
    rm_event event = {.struct_size = sizeof event};
    uint32_t count = 0;
    OK(rm_queue_next(queue, 0, &event, 1, &count, &error));
    CHECK(count == 1 && event.type == RM_EVENT_LOG && event.struct_size == sizeof event);
    CHECK(gives(event.data, text));
}

static void nothing_is_logged_at_first(void) {
    provoke(); /* and nothing stands on stderr */
}

static void a_function_of_the_hosts_gets_the_messages(void) {
    heard.calls = 0;
    OK(rm_set_log(hear, &heard, RM_LOG_TRACE, &error));
    provoke();
    CHECK(heard.calls == 1 && heard.level == RM_LOG_ERROR);
    CHECK(strncmp(heard.text, "remotemedia", 11) == 0 && strstr(heard.text, "another kind"));

    OK(rm_set_log(hear, &heard, 0, &error));
    provoke();
    OK(rm_set_log(hear, &heard, RM_LOG_ERROR, &error));
    provoke();
    CHECK(heard.calls == 2);
    OK(rm_set_log(NULL, NULL, RM_LOG_TRACE, &error));
    provoke();
    CHECK(heard.calls == 2);
}

static void a_level_or_a_queue_that_is_none_changes_nothing(void) {
    heard.calls = 0;
    OK(rm_set_log(hear, &heard, RM_LOG_ERROR, &error));
    rm_data *data = json("1");
    FAILS(RM_E_ARGUMENT, rm_set_log(NULL, NULL, 6, &error));
    FAILS(RM_E_ARGUMENT, rm_set_log(NULL, NULL, -1, &error));
    FAILS(RM_E_ARGUMENT, rm_set_log(rm_queue_log, NULL, RM_LOG_ERROR, &error));
    FAILS(RM_E_ARGUMENT, rm_set_log(rm_queue_log, data, RM_LOG_ERROR, &error));
    CHECK(rm_set_log(NULL, NULL, 6, NULL) == RM_E_ARGUMENT);
    rm_data_free(data);
    provoke();
    CHECK(heard.calls == 1);
    OK(rm_set_log(NULL, NULL, 0, &error));
}

static void a_queue_gets_them_and_is_kept_alive(void) {
    rm_queue *queue = queue_new();
    OK(rm_set_log(rm_queue_log, queue, RM_LOG_ERROR, &error));
    provoke();
    rm_event event = {.struct_size = sizeof event};
    uint32_t count = 0;
    OK(rm_queue_next(queue, -1, &event, 1, &count, &error));
    const char *text = view_of(event.data).json;
    CHECK(strstr(text, "\"level\":1,\"target\":\"remotemedia"));
    CHECK(says(event.data, "\"dropped\":0}"));

    rm_queue_free(queue);
    provoke(); /* it is still the sink */
    OK(rm_set_log(NULL, NULL, 0, &error));
}

static void events_come_in_order_many_at_a_time(void) {
    rm_queue *queue = queue_new();
    rm_event events[4] = {{.struct_size = sizeof *events}};
    uint32_t count = 7;
    AGAIN(rm_queue_next(queue, 0, events, 4, &count, &error));
    CHECK(count == 0);
    AGAIN(rm_queue_next(queue, 5, events, 4, &count, &error));
    put(queue, "a");
    put(queue, "b");
    put(queue, "");
    OK(rm_queue_next(queue, -1, events, 2, &count, &error));
    CHECK(count == 2 && events[1].type == RM_EVENT_LOG && events[1].struct_size == sizeof *events);
    CHECK(says(events[0].data, "\"message\":\"a\"") && says(events[1].data, "\"message\":\"b\""));
    next_is(queue, "{\"level\":3,\"target\":\"host\",\"message\":\"\",\"dropped\":0}");
    rm_queue_free(queue);
}

static void what_nobody_fetches_is_dropped_and_counted(void) {
    rm_queue *queue = queue_new();
    char number[10];
    for (int i = 0; i < 1500; i++) {
        snprintf(number, sizeof number, "%d", i);
        put(queue, number);
    }
    next_is(queue, "{\"level\":3,\"target\":\"host\",\"message\":\"500\",\"dropped\":500}");
    next_is(queue, "{\"level\":3,\"target\":\"host\",\"message\":\"501\",\"dropped\":0}");
    static rm_event events[2000];
    events->struct_size = sizeof *events;
    uint32_t count = 0;
    OK(rm_queue_next(queue, 0, events, 2000, &count, &error));
    CHECK(count == 998);
    CHECK(says(events[997].data, "\"message\":\"1499\",\"dropped\":0"));
    for (uint32_t i = 0; i < 997; i++)
        rm_data_free(events[i].data);
    put(queue, "left in the queue");
    rm_queue_free(queue);
}

static void what_waits_is_counted(void) {
    rm_queue *queue = queue_new();
    const volatile uint32_t *pending = rm_queue_pending(queue);
    CHECK(pending != NULL && *pending == 0);
    CHECK(rm_queue_pending(queue) == pending);
    OK(rm_set_log(rm_queue_log, queue, RM_LOG_ERROR, &error));
    provoke();
    CHECK(*pending == 1);
    OK(rm_set_log(NULL, NULL, 0, &error));
    provoke();
    put(queue, "a");
    put(queue, "b");
    CHECK(*pending == 3);

    rm_event events[2] = {{.struct_size = sizeof *events}};
    uint32_t count = 0;
    OK(rm_queue_next(queue, 0, events, 2, &count, &error));
    CHECK(count == 2 && *pending == 1);
    CHECK(says(events[0].data, "another kind") && says(events[1].data, "\"a\""));
    FAILS(RM_E_ARGUMENT, rm_queue_next(queue, 0, events, 0, &count, &error));
    CHECK(*pending == 1);
    OK(rm_queue_next(queue, 0, events, 2, &count, &error));
    CHECK(count == 1 && *pending == 0);
    rm_data_free(events[0].data);
    AGAIN(rm_queue_next(queue, 0, events, 2, &count, &error));
    CHECK(*pending == 0);
    for (int i = 0; i < 1500; i++)
        put(queue, "many");
    CHECK(*pending == 1000); /* without those that were dropped */
    rm_queue_free(queue);
    CHECK(rm_queue_pending(NULL) == NULL);
}

static void null_is_refused_and_outs_are_null(void) {
    rm_queue *queue = queue_new();
    rm_event event = {.struct_size = sizeof event};
    uint32_t count = 7;
    put(queue, "stays");
    FAILS(RM_E_ARGUMENT, rm_queue_new(NULL, &error));
    FAILS(RM_E_ARGUMENT, rm_queue_next(NULL, 0, &event, 1, &count, &error));
    CHECK(count == 0);
    count = 7;
    FAILS(RM_E_ARGUMENT, rm_queue_next(queue, 0, NULL, 1, &count, &error));
    CHECK(count == 0);
    FAILS(RM_E_ARGUMENT, rm_queue_next(queue, 0, &event, 0, &count, &error));
    FAILS(RM_E_ARGUMENT, rm_queue_next(queue, 0, &event, 1, NULL, &error));
    CHECK(rm_queue_next(NULL, 0, NULL, 0, NULL, NULL) == RM_E_ARGUMENT);
    event.struct_size = 0;
    FAILS(RM_E_ARGUMENT, rm_queue_next(queue, 0, &event, 1, &count, &error));
    event.struct_size = sizeof event - 1;
    FAILS(RM_E_ARGUMENT, rm_queue_next(queue, 0, &event, 1, &count, &error));
    next_is(queue, "{\"level\":3,\"target\":\"host\",\"message\":\"stays\",\"dropped\":0}");

    rm_queue_log(NULL, 1, TEXT("host"), TEXT("nowhere"));
    rm_queue_log(queue, 1, NULL, 5, TEXT("no target"));
    rm_queue_log(queue, 1, TEXT("host"), TEXT("\xff"));
    AGAIN(rm_queue_next(queue, 0, &(rm_event){.struct_size = sizeof event}, 1, &count, &error));
    rm_queue_free(queue);
    rm_queue_free(NULL);
    rm_queue_free(NULL);
}

static void structs_state_their_size(void) {
    struct {
        rm_event event;
        uint64_t more;
    } newer[2] = {{{.struct_size = sizeof *newer}, 7}, {{.struct_size = 0}, 7}};
    rm_queue *queue = queue_new();
    put(queue, "a");
    put(queue, "b");
    uint32_t count = 0;
    OK(rm_queue_next(queue, 0, &newer->event, 2, &count, &error));
    CHECK(count == 2 && newer[1].event.struct_size == sizeof *newer);
    CHECK(newer[0].more == 0 && newer[1].more == 0); /* what the library does not know */
    CHECK(says(newer[0].event.data, "\"a\"") && says(newer[1].event.data, "\"b\""));
    rm_queue_free(queue);
}

static void *fetch_one(void *queue) {
    rm_error *error = NULL;
    rm_event event = {.struct_size = sizeof event};
    uint32_t count = 0;
    OK(rm_queue_next(queue, -1, &event, 1, &count, &error));
    CHECK(says(event.data, "wake up"));
    return NULL;
}

static void *fetch_until_freed(void *queue) {
    rm_error *error = NULL;
    rm_event event = {.struct_size = sizeof event};
    uint32_t count = 7;
    FAILS(RM_E_CLOSED, rm_queue_next(queue, -1, &event, 1, &count, &error));
    CHECK(count == 0);
    return NULL;
}

static void who_waits_is_woken(void) {
    rm_queue *queue = queue_new();
    pthread_t waiting = begin(fetch_one, queue);
    pause_ms(20);
    put(queue, "wake up");
    join(waiting);

    OK(rm_set_log(rm_queue_log, queue, 0, &error)); /* kept alive, should the thread be late */
    waiting = begin(fetch_until_freed, queue);
    pause_ms(20);
    rm_queue_free(queue);
    join(waiting);
    OK(rm_set_log(NULL, NULL, 0, &error));
}

static void *put_later(void *queue) {
    pause_ms(20);
    put(queue, "later");
    return NULL;
}

static void who_reads_the_count_sees_what_others_put(void) {
    rm_queue *queue = queue_new();
    const volatile uint32_t *pending = rm_queue_pending(queue);
    pthread_t putting = begin(put_later, queue);
    double start = seconds();
    while (*pending == 0 && seconds() - start < 30)
        pause_ms(1);
    CHECK(*pending == 1);
    join(putting);
    next_is(queue, "{\"level\":3,\"target\":\"host\",\"message\":\"later\",\"dropped\":0}");
    CHECK(*pending == 0);
    rm_queue_free(queue);
}

static void other_objects_are_told_apart(void) {
    rm_data *data = json("1");
    rm_event event = {.struct_size = sizeof event};
    uint32_t count = 7;
    FAILS(RM_E_ARGUMENT, rm_queue_next((rm_queue *)data, 0, &event, 1, &count, &error));
    rm_queue_log(data, 1, TEXT("host"), TEXT("nowhere"));
    CHECK(rm_queue_pending((rm_queue *)data) == NULL);
    rm_queue_free((rm_queue *)data);
    CHECK(gives(data, "1"));
}

int main(void) {
    RUN(nothing_is_logged_at_first);
    RUN(a_function_of_the_hosts_gets_the_messages);
    RUN(a_level_or_a_queue_that_is_none_changes_nothing);
    RUN(a_queue_gets_them_and_is_kept_alive);
    RUN(events_come_in_order_many_at_a_time);
    RUN(what_nobody_fetches_is_dropped_and_counted);
    RUN(what_waits_is_counted);
    RUN(null_is_refused_and_outs_are_null);
    RUN(structs_state_their_size);
    RUN(who_waits_is_woken);
    RUN(who_reads_the_count_sees_what_others_put);
    RUN(other_objects_are_told_apart);
    return 0;
}
