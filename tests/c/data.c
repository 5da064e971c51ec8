/* rm_data and rm_view. */
#include "check.h"

static int released;

static void count_release(void *user_data) {
    CHECK(user_data == &released);
    released++;
}

static float numbers[6] = {0, 1, 2, 3, 4, 5};
static const int64_t two_by_three[2] = {2, 3};

static rm_view matrix(void) {
    rm_view view = {.struct_size = sizeof view, .kind = RM_TENSOR};
    view.data = numbers;
    view.byte_len = sizeof numbers;
    view.shape = two_by_three;
    view.ndim = 2;
    view.device_type = 1;
    view.dtype_code = 2;
    view.dtype_bits = 32;
    view.dtype_lanes = 1;
    return view;
}

static rm_view audio(void) {
    rm_view view = matrix();
    view.kind = RM_AUDIO;
    view.pts_us = RM_NO_PTS;
    view.json = "{\"sample_rate\": 16000}";
    view.json_len = strlen(view.json);
    return view;
}

static rm_view part(uint32_t kind, const void *data, size_t len) {
    rm_view view = {.struct_size = sizeof view, .kind = kind};
    view.data = (void *)data;
    view.byte_len = len;
    return view;
}

static rm_view text_of(uint32_t kind, const char *text) {
    rm_view view = {.struct_size = sizeof view, .kind = kind, .json = text};
    view.json_len = strlen(text);
    return view;
}

static rm_data *make(rm_view view) {
    rm_data *data = NULL;
    OK(rm_data_new(&view, NULL, NULL, &data, &error));
    CHECK(data != NULL);
    return data;
}

/* As make, of memory that is lent. */
static rm_data *lend(rm_view view) {
    rm_data *data = NULL;
    released = 0;
    OK(rm_data_new(&view, count_release, &released, &data, &error));
    CHECK(data != NULL);
    return data;
}

/* What is refused is not released either: it stays the host's. */
#define REFUSED(code, view) refused(__LINE__, code, view)

static void refused(int line, rm_status code, rm_view view) {
    rm_data *data = (rm_data *)&view;
    released = 0;
    rm_status status = rm_data_new(&view, count_release, &released, &data, &error);
    expect(__FILE__, line, "rm_data_new", code, NULL, status, &error);
    CHECK(data == NULL);
    CHECK(released == 0);
}

static void null_is_refused_and_outs_are_null(void) {
    rm_view view = text_of(RM_JSON, "1");
    rm_data *data = (rm_data *)&view;
    FAILS(RM_E_ARGUMENT, rm_data_new(NULL, NULL, NULL, &data, &error));
    CHECK(data == NULL);
    FAILS(RM_E_ARGUMENT, rm_data_new(&view, NULL, NULL, NULL, &error));
    CHECK(rm_data_new(NULL, NULL, NULL, NULL, NULL) == RM_E_ARGUMENT);

    data = make(view);
    FAILS(RM_E_ARGUMENT, rm_data_view(data, NULL, &error));
    FAILS(RM_E_ARGUMENT, rm_data_view(NULL, &view, &error));
    CHECK(view.json == NULL && view.json_len == 0);
    CHECK(rm_data_view(NULL, NULL, NULL) == RM_E_ARGUMENT);
    CHECK(rm_data_retain(NULL) == NULL);
    rm_data_free(data);
    rm_data_free(NULL);
    rm_data_free(NULL);
}

static void structs_state_their_size(void) {
    struct {
        rm_view view;
        char more[64];
    } newer;
    rm_view view = text_of(RM_JSON, "1");
    uint32_t wrong[] = {0, 1, sizeof view - 1};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        view.struct_size = wrong[i];
        REFUSED(RM_E_ARGUMENT, view);
        rm_data *data = json("1");
        FAILS(RM_E_ARGUMENT, rm_data_view(data, &view, &error));
        rm_data_free(data);
    }

    /* A host with a newer header gets the fields that the library knows, and is told so. */
    memset(&newer, 'x', sizeof newer);
    newer.view = text_of(RM_JSON, "[1]");
    newer.view.struct_size = sizeof newer;
    rm_data *data = NULL;
    OK(rm_data_new(&newer.view, NULL, NULL, &data, &error));
    newer.view.struct_size = sizeof newer;
    OK(rm_data_view(data, &newer.view, &error));
    CHECK(newer.view.struct_size == sizeof(rm_view));
    CHECK(strcmp(newer.view.json, "[1]") == 0);
    CHECK(newer.more[0] == 'x' && newer.more[63] == 'x');
    rm_data_free(data);

    char place[sizeof(rm_view) + 8] = {0};
    char *start = place + (8 - (uintptr_t)place % 8) + 1; /* not aligned */
    FAILS(RM_E_ARGUMENT, rm_data_new((rm_view *)(void *)start, NULL, NULL, &data, &error));
}

static void other_objects_are_told_apart(void) {
    rm_pipeline *pipeline = one_node(NULL, "PassThrough", "{}");
    rm_data *wrong = (rm_data *)pipeline;
    rm_view view = {.struct_size = sizeof view};
    FAILS(RM_E_ARGUMENT, rm_data_view(wrong, &view, &error));
    CHECK(rm_data_retain(wrong) == NULL);
    rm_data_free(wrong);

    rm_view list = text_of(RM_JSON, "[{\"$rm\": 0}]");
    list.children = &wrong;
    list.child_count = 1;
    REFUSED(RM_E_ARGUMENT, list);

    char odd[8] = {0};
    FAILS(RM_E_ARGUMENT, rm_data_view((rm_data *)(void *)(odd + 1), &view, &error));
    rm_pipeline_free(pipeline); /* still alive: the wrong free left it alone */
    REFUSED(RM_E_ARGUMENT, part(6, numbers, 4));
    REFUSED(RM_E_ARGUMENT, part(RM_MARSHAL, numbers, 4));
    REFUSED(RM_E_ARGUMENT, part(UINT32_MAX, numbers, 4));
}

static void json_comes_back_as_it_went_in(void) {
    const char *texts[] = {
        "null",
        "true",
        "\"a \\\"b\\\" \xc3\xa4\"",
        "[-9223372036854775808,18446744073709551615,1.0,5e-324]",
        "{\"b\":[],\"a\":{}}",
        "[{\"$rm\":\"NaN\"},{\"$rm\":\"Infinity\"},{\"$rm\":\"-Infinity\"}]",
        "{\"$rm\":{\"$rm\":1}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        CHECK(gives(json(texts[i]), texts[i]));
}

static void json_that_is_none_is_refused(void) {
    static char deep[205];
    REFUSED(RM_E_JSON, text_of(RM_JSON, ""));
    REFUSED(RM_E_JSON, text_of(RM_JSON, "[1,]"));
    REFUSED(RM_E_JSON, text_of(RM_JSON, "[1] 2"));
    REFUSED(RM_E_JSON, text_of(RM_JSON, "NaN"));
    REFUSED(RM_E_JSON, text_of(RM_JSON, "18446744073709551616"));
    REFUSED(RM_E_JSON, text_of(RM_JSON, "{\"a\": 1, \"a\": 1}"));
    REFUSED(RM_E_JSON, text_of(RM_JSON, "{\"$rm\": \"nan\"}"));
    REFUSED(RM_E_UTF8, text_of(RM_JSON, "\"\xff\""));
    memset(deep, '[', 204);
    REFUSED(RM_E_LIMIT, text_of(RM_JSON, deep));
    memset(deep + 100, ']', 100);
    deep[200] = 0;
    CHECK(gives(json(deep), deep));

    rm_view nothing = text_of(RM_JSON, "");
    nothing.json = NULL;
    REFUSED(RM_E_JSON, nothing);
    nothing.json_len = 1;
    REFUSED(RM_E_ARGUMENT, nothing);
    nothing.json = "1";
    nothing.json_len = SIZE_MAX;
    REFUSED(RM_E_ARGUMENT, nothing);
}

static void text_is_utf8_and_may_hold_a_nul(void) {
    rm_data *data = make(part(RM_TEXT, "a\0\xc3\xa4", 4));
    rm_view view = view_of(data);
    CHECK(view.kind == RM_TEXT);
    CHECK(view.byte_len == 4 && memcmp(view.data, "a\0\xc3\xa4", 4) == 0);
    CHECK(strcmp(view.json, "\"a\\u0000\xc3\xa4\"") == 0);
    rm_data_free(data);

    data = make(part(RM_TEXT, NULL, 0));
    CHECK(gives(data, "\"\""));
    REFUSED(RM_E_UTF8, part(RM_TEXT, "\xff", 1));
    REFUSED(RM_E_UTF8, part(RM_TEXT, "\xed\xa0\x80", 3)); /* half of a surrogate pair */
    REFUSED(RM_E_ARGUMENT, part(RM_TEXT, NULL, 1));
}

static void bytes_are_copied_unless_they_are_lent(void) {
    char mine[] = "abc";
    rm_data *copy = make(part(RM_BYTES, mine, 3));
    rm_data *same = lend(part(RM_BYTES, mine, 3));
    CHECK(view_of(copy).data != mine && view_of(same).data == mine);
    rm_data_free(same);
    CHECK(released == 1);
    mine[0] = 'x';
    rm_view view = view_of(copy);
    CHECK(view.kind == RM_BYTES && view.byte_len == 3 && memcmp(view.data, "abc", 3) == 0);
    CHECK(view.json_len == 0 && *view.json == 0 && view.child_count == 0);
    CHECK(view.pts_us == RM_NO_PTS && view.ndim == 0 && view.flags == 0);
    rm_data_free(copy);

    rm_data_free(make(part(RM_BYTES, NULL, 0)));
    REFUSED(RM_E_ARGUMENT, part(RM_BYTES, NULL, 1));
    rm_view huge = part(RM_BYTES, mine, 1);
    huge.byte_len = UINT64_MAX;
    REFUSED(RM_E_ARGUMENT, huge);
}

static void a_tensor_comes_back_with_all_its_parts(void) {
    rm_data *data = make(matrix());
    rm_view view = view_of(data);
    CHECK(view.struct_size == sizeof view && view.kind == RM_TENSOR);
    CHECK(view.ndim == 2 && view.shape[0] == 2 && view.shape[1] == 3);
    CHECK(view.strides[0] == 3 && view.strides[1] == 1);
    CHECK(view.dtype_code == 2 && view.dtype_bits == 32 && view.dtype_lanes == 1);
    CHECK(view.device_type == 1 && view.device_id == 0);
    CHECK(view.byte_len == sizeof numbers && memcmp(view.data, numbers, sizeof numbers) == 0);
    rm_data_free(data);

    rm_view scalar = matrix();
    scalar.ndim = 0;
    scalar.shape = NULL;
    scalar.byte_len = 4;
    scalar.device_type = 0; /* not set: the CPU */
    data = make(scalar);
    CHECK(view_of(data).ndim == 0 && view_of(data).byte_len == 4);
    rm_data_free(data);

    int64_t empty[3] = {0, INT64_MAX, INT64_MAX};
    rm_view nothing = matrix();
    nothing.data = NULL;
    nothing.byte_len = 0;
    nothing.shape = empty;
    nothing.strides = empty;
    nothing.ndim = 3;
    data = make(nothing);
    CHECK(view_of(data).ndim == 3 && view_of(data).shape[2] == INT64_MAX);
    rm_data_free(data);
}

static void tensors_whose_parts_do_not_fit_are_refused(void) {
    rm_view view = matrix();
    const int64_t negative[2] = {-2, -3}, large[2] = {INT64_MAX, 4};
    view.byte_len = 23;
    REFUSED(RM_E_ARGUMENT, view);
    view.byte_len = UINT64_MAX;
    REFUSED(RM_E_ARGUMENT, view);
    view = matrix();
    view.data = NULL;
    REFUSED(RM_E_ARGUMENT, view);
    view = matrix();
    view.shape = NULL;
    REFUSED(RM_E_ARGUMENT, view);
    view.shape = negative;
    REFUSED(RM_E_ARGUMENT, view);
    view.shape = large;
    REFUSED(RM_E_ARGUMENT, view);
    view = matrix();
    view.shape = (const int64_t *)(const void *)((const char *)two_by_three + 1);
    REFUSED(RM_E_ARGUMENT, view);
    view = matrix();
    view.ndim = -1;
    REFUSED(RM_E_ARGUMENT, view);
    view.ndim = 65;
    REFUSED(RM_E_ARGUMENT, view);
    view.ndim = 1;
    REFUSED(RM_E_ARGUMENT, view);
}

static void unknown_element_types_and_devices_are_unsupported(void) {
    rm_view view = matrix();
    const uint8_t unknown[][2] = {{2, 0}, {2, 31}, {2, 8}, {0, 4}, {3, 64}, {7, 8}, {255, 32}};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        view.dtype_code = unknown[i][0];
        view.dtype_bits = unknown[i][1];
        REFUSED(RM_E_UNSUPPORTED, view);
    }
    view = matrix();
    view.dtype_lanes = 0;
    REFUSED(RM_E_UNSUPPORTED, view);
    view.dtype_lanes = 4;
    REFUSED(RM_E_UNSUPPORTED, view);
    view = matrix();
    view.device_type = 2;
    REFUSED(RM_E_UNSUPPORTED, view);
    view.device_type = -1;
    REFUSED(RM_E_UNSUPPORTED, view);
}

/* Makes a tensor with these strides, lent: it is gathered, so it is released at once. */
static void gathered(const float *start, const int64_t *shape, const int64_t *strides,
                     const float *wanted) {
    rm_view view = matrix();
    view.data = (void *)start;
    view.shape = shape;
    view.strides = strides;
    rm_data *data = lend(view);
    CHECK(released == 1);
    CHECK(memcmp(view_of(data).data, wanted, sizeof numbers) == 0);
    CHECK(view_of(data).strides[1] == 1);
    rm_data_free(data);
    CHECK(released == 1);
}

static void strides_in_any_order_are_gathered(void) {
    const int64_t three_by_two[2] = {3, 2};
    const int64_t transposed[2] = {1, 3}, backwards[2] = {-3, -1}, same_row[2] = {0, 1};
    gathered(numbers, three_by_two, transposed, (float[]){0, 3, 1, 4, 2, 5});
    gathered(numbers + 5, two_by_three, backwards, (float[]){5, 4, 3, 2, 1, 0});
    gathered(numbers, two_by_three, same_row, (float[]){0, 1, 2, 0, 1, 2});

    /* The strides of a dimension of length 1 mean nothing. */
    const int64_t row[2] = {1, 6}, odd[2] = {-77, 1};
    rm_view view = matrix();
    view.shape = row;
    view.strides = odd;
    rm_data *data = lend(view);
    CHECK(released == 0 && view_of(data).data == numbers);
    rm_data_free(data);
    CHECK(released == 1);
}

static void audio_has_a_rate_a_shape_and_perhaps_a_time(void) {
    rm_data *data = lend(audio());
    rm_view view = view_of(data);
    CHECK(view.kind == RM_AUDIO && view.pts_us == RM_NO_PTS && view.data == numbers);
    CHECK(strcmp(view.json, "{\"sample_rate\":16000}") == 0);
    CHECK(view.shape[0] == 2 && view.shape[1] == 3);
    rm_data_free(data);
    CHECK(released == 1);

    rm_view timed = audio();
    timed.pts_us = -5;
    data = make(timed);
    CHECK(view_of(data).pts_us == -5);
    rm_data_free(data);

    const char *wrong[] = {"",
                           "{}",
                           "16000",
                           "[16000]",
                           "{\"sample_rate\": 0}",
                           "{\"sample_rate\": -1}",
                           "{\"sample_rate\": 1.5}",
                           "{\"sample_rate\": 768001}",
                           "{\"sample_rate\": 8000, \"more\": 1}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        view = audio();
        view.json = wrong[i];
        view.json_len = strlen(wrong[i]);
        REFUSED(RM_E_ARGUMENT, view);
    }
    view = audio();
    view.dtype_code = 0;
    REFUSED(RM_E_ARGUMENT, view);
    const int64_t cube[3] = {1, 2, 3}, no_channel[2] = {6, 0};
    view = audio();
    view.shape = cube;
    view.ndim = 3;
    REFUSED(RM_E_ARGUMENT, view);
    view = audio();
    view.shape = no_channel;
    view.byte_len = 0;
    REFUSED(RM_E_ARGUMENT, view);
}

static uint8_t pixels[24];
static const int64_t two_by_four[3] = {2, 4, 3};

static rm_view frame(const char *format) {
    rm_view view = part(RM_VIDEO, pixels, sizeof pixels);
    view.pts_us = RM_NO_PTS;
    view.json = format;
    view.json_len = strlen(format);
    view.shape = two_by_four;
    view.ndim = 3;
    view.dtype_code = 1;
    view.dtype_bits = 8;
    view.dtype_lanes = 1;
    return view;
}

static void a_frame_has_a_format_a_shape_and_perhaps_a_time(void) {
    rm_data *data = lend(frame("{\"format\": \"rgb24\"}"));
    rm_view view = view_of(data);
    CHECK(view.kind == RM_VIDEO && view.pts_us == RM_NO_PTS && view.data == pixels);
    CHECK(strcmp(view.json, "{\"format\":\"rgb24\"}") == 0);
    CHECK(view.ndim == 3 && view.shape[0] == 2 && view.shape[1] == 4 && view.shape[2] == 3);
    CHECK(view.dtype_code == 1 && view.dtype_bits == 8 && view.strides[0] == 12);
    rm_data_free(data);
    CHECK(released == 1);

    const struct {
        const char *format;
        int64_t shape[3];
        int32_t ndim;
    } good[] = {
        {"{\"format\": \"bgr24\"}", {4, 2, 3}, 3}, {"{\"format\": \"rgba\"}", {2, 3, 4}, 3},
        {"{\"format\": \"bgra\"}", {6, 1, 4}, 3},  {"{\"format\": \"gray\"}", {4, 6, 0}, 2},
        {"{\"format\": \"gray\"}", {4, 6, 1}, 3},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        view = frame(good[i].format);
        view.shape = good[i].shape;
        view.ndim = good[i].ndim;
        view.pts_us = -5;
        data = make(view);
        CHECK(view_of(data).pts_us == -5 && view_of(data).ndim == good[i].ndim);
        rm_data_free(data);
    }

    const char *wrong[] = {"",
                           "{}",
                           "\"rgb24\"",
                           "[\"rgb24\"]",
                           "{\"format\": 3}",
                           "{\"format\": \"rgb\"}",
                           "{\"format\": \"gray\"}",
                           "{\"format\": \"rgba\"}",
                           "{\"format\": \"rgb24\", \"more\": 1}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        REFUSED(RM_E_ARGUMENT, frame(wrong[i]));
    view = frame("{\"format\": \"rgb24\"}");
    view.dtype_code = 0;
    REFUSED(RM_E_ARGUMENT, view);
    const int64_t no_row[3] = {0, 4, 3}, flat[2] = {2, 12};
    view = frame("{\"format\": \"rgb24\"}");
    view.shape = flat;
    view.ndim = 2;
    REFUSED(RM_E_ARGUMENT, view);
    view.shape = no_row;
    view.ndim = 3;
    view.byte_len = 0;
    REFUSED(RM_E_ARGUMENT, view);
    static uint8_t wide[65537];
    const int64_t too_wide[2] = {1, 65537};
    view = frame("{\"format\": \"gray\"}");
    view.data = wide;
    view.byte_len = sizeof wide;
    view.shape = too_wide;
    view.ndim = 2;
    REFUSED(RM_E_ARGUMENT, view);
}

static void copies_are_released_at_once(void) {
    rm_view misaligned = matrix();
    char place[sizeof numbers + 1];
    memcpy(place + 1, numbers, sizeof numbers);
    misaligned.data = place + 1 - (uintptr_t)place % 2; /* an odd address */
    memcpy(misaligned.data, numbers, sizeof numbers);
    rm_view copied[] = {text_of(RM_JSON, "[1]"), part(RM_TEXT, "a", 1), part(RM_BYTES, "", 0),
                        misaligned};
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++) {
        rm_data *data = lend(copied[i]);
        CHECK(released == 1);
        rm_data_free(data);
        CHECK(released == 1);
    }
}

static void lent_memory_is_released_after_the_last_reader(void) {
    rm_data *first = lend(matrix());
    rm_data *second = rm_data_retain(first);
    CHECK(second == first);
    rm_data_free(first);
    CHECK(released == 0 && view_of(second).data == numbers);

    rm_view batch = text_of(RM_JSON, "[{\"$rm\": 0}, {\"$rm\": 0}]");
    batch.children = &second;
    batch.child_count = 1;
    rm_data *input = make(batch);
    rm_data_free(second);
    CHECK(released == 0);

    /* Through a pipeline and out again, it is the same memory. */
    rm_pipeline *pipeline = one_node(NULL, "PassThrough", "{}");
    rm_data *result = NULL;
    OK(rm_pipeline_run(pipeline, input, -1, &result, NULL, &error));
    rm_pipeline_free(pipeline);
    rm_data_free(input);
    CHECK(released == 0);

    rm_view view = view_of(result);
    CHECK(strcmp(view.json, "[{\"$rm\":0},{\"$rm\":1}]") == 0 && view.child_count == 2);
    CHECK(view_of(view.children[0]).data == numbers && view_of(view.children[1]).data == numbers);

    /* A child that is retained outlives its parent. */
    rm_data *child = rm_data_retain(view.children[1]);
    rm_data_free(result);
    CHECK(released == 0 && view_of(child).data == numbers);
    rm_data_free(child);
    CHECK(released == 1);
}

static void what_fails_is_not_released(void) {
    rm_view view = matrix();
    view.byte_len++;
    REFUSED(RM_E_ARGUMENT, view);
    view = matrix();
    released = 0;
    FAILS(RM_E_ARGUMENT, rm_data_new(&view, count_release, &released, NULL, &error));
    CHECK(released == 0);
}

static void references_to_children_are_checked(void) {
    rm_view view = text_of(RM_JSON, "[{\"$rm\": 0}, {\"$rm\": 1}]");
    REFUSED(RM_E_JSON, view);
    view.child_count = 1;
    REFUSED(RM_E_ARGUMENT, view);
    rm_data *child = NULL;
    view.children = &child;
    REFUSED(RM_E_ARGUMENT, view);
    child = make(part(RM_BYTES, "abc", 3));
    REFUSED(RM_E_JSON, view);

    rm_view good = text_of(RM_JSON, "{\"a\": {\"$rm\": 0}, \"b\": {\"$rm\": 1}}");
    rm_data *children[2] = {child, json("[1, {\"$rm\": \"NaN\"}]")};
    good.children = children;
    good.child_count = 2;
    rm_data *both = make(good);
    rm_data_free(children[0]);
    rm_data_free(children[1]);
    CHECK(gives(both, "{\"a\":{\"$rm\":0},\"b\":[1,{\"$rm\":\"NaN\"}]}"));
}

static void children_do_not_get_round_the_depth_limit(void) {
    rm_data *value = json("[]");
    for (int level = 1;; level++) {
        rm_view view = text_of(RM_JSON, "[{\"$rm\": 0}]");
        view.children = &value;
        view.child_count = 1;
        rm_data *wrapped = NULL;
        rm_status status = rm_data_new(&view, NULL, NULL, &wrapped, &error);
        rm_data_free(value);
        value = wrapped;
        if (status != RM_OK) {
            CHECK(level > 90 && level < 110);
            FAILS(RM_E_LIMIT, status);
            return;
        }
        CHECK(level < 100000);
    }
}

int main(void) {
    RUN(null_is_refused_and_outs_are_null);
    RUN(structs_state_their_size);
    RUN(other_objects_are_told_apart);
    RUN(json_comes_back_as_it_went_in);
    RUN(json_that_is_none_is_refused);
    RUN(text_is_utf8_and_may_hold_a_nul);
    RUN(bytes_are_copied_unless_they_are_lent);
    RUN(a_tensor_comes_back_with_all_its_parts);
    RUN(tensors_whose_parts_do_not_fit_are_refused);
    RUN(unknown_element_types_and_devices_are_unsupported);
    RUN(strides_in_any_order_are_gathered);
    RUN(audio_has_a_rate_a_shape_and_perhaps_a_time);
    RUN(a_frame_has_a_format_a_shape_and_perhaps_a_time);
    RUN(copies_are_released_at_once);
    RUN(lent_memory_is_released_after_the_last_reader);
    RUN(what_fails_is_not_released);
    RUN(references_to_children_are_checked);
    RUN(children_do_not_get_round_the_depth_limit);
    return 0;
}
