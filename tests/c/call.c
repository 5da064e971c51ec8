/* rm_call, rm_call_run and rm_call_wait. */
#include "check.h"

/* Lengths and small numbers as marshal writes them. */
#define N0 "\000\000\000\000"
#define N1 "\001\000\000\000"
#define N2 "\002\000\000\000"
#define N3 "\003\000\000\000"
#define N4 "\004\000\000\000"
#define N5 "\005\000\000\000"
#define N6 "\006\000\000\000"
/* The beginning of an object with the key of the escape; it ends in "0". */
#define ESCAPE "{u" N3 "$rm"
#define BYTES(text) (text), sizeof(text) - 1

/* What the last call gave, taken out of its struct. */
static struct {
    uint32_t flags, part_count;
    const char *text;
    size_t len;
    const rm_view *parts;
} output;
static rm_run *run;

static rm_status run_call(const rm_pipeline *pipeline, uint32_t kind, const char *text, size_t len,
                          uint32_t part_count, int64_t slice_us, rm_call *it) {
    it->pipeline = pipeline;
    it->kind = kind;
    it->part_count = part_count;
    it->slice_us = slice_us;
    rm_status status = rm_call_run(it, text, len);
    CHECK(it->pipeline == pipeline && it->kind == kind && it->part_count == part_count);
    CHECK(it->slice_us == slice_us);
    return status;
}

static rm_status call_for(const rm_pipeline *pipeline, uint32_t kind, const char *text, size_t len,
                          const rm_view *parts, uint32_t part_count, int64_t timeout_ms,
                          int64_t slice_us) {
    rm_call it;
    memset(&it, 'x', sizeof it); /* the library is to overwrite all that it gives */
    it.struct_size = sizeof it;
    it.flags = 0;
    it.timeout_ms = timeout_ms;
    it.parts = parts;
    it.buffer = NULL;
    rm_status status = run_call(pipeline, kind, text, len, part_count, slice_us, &it);
    CHECK(it.struct_size == sizeof it && !it.flags && it.timeout_ms == timeout_ms);
    CHECK(it.parts == parts && !it.buffer && it.buffer_len == 0x7878787878787878);
    CHECK(!(it.given & RM_HELD) == (status != RM_OK)); /* without RM_DETACH there is a run */
    CHECK(!it.run == (status < 0) && !it.error == (status >= 0));
    output.flags = it.given & ~RM_HELD;
    output.text = it.text;
    output.len = it.len;
    output.parts = it.given_parts;
    output.part_count = it.given_count;
    run = it.run;
    error = it.error;
    return status;
}

static rm_status call(const rm_pipeline *pipeline, uint32_t kind, const char *text, size_t len,
                      const rm_view *parts, uint32_t part_count, int64_t slice_us) {
    return call_for(pipeline, kind, text, len, parts, part_count, -1, slice_us);
}

static bool is_empty(void) {
    return !output.flags && !output.text && !output.len && !output.parts && !output.part_count;
}

/* What has failed gives nothing. */
#define REFUSED(code, ...)                                                                         \
    do {                                                                                           \
        FAILS(code, call(__VA_ARGS__, -1));                                                        \
        CHECK(run == NULL && is_empty());                                                          \
    } while (0)

/* The call succeeds with this text. */
static void gives_text(const rm_pipeline *pipeline, uint32_t kind, const char *text, size_t len,
                       const rm_view *parts, uint32_t part_count, const char *wanted,
                       size_t wanted_len) {
    OK(call(pipeline, kind, text, len, parts, part_count, -1));
    CHECK(run != NULL);
    if (output.len != wanted_len || memcmp(output.text, wanted, wanted_len) != 0) {
        fprintf(stderr, "%zu bytes, not %zu:", output.len, wanted_len);
        for (size_t i = 0; i < output.len; i++)
            fprintf(stderr, " %02x", (unsigned char)output.text[i]);
        fprintf(stderr, "\n");
        _exit(1);
    }
}

static void json_gives(const rm_pipeline *pipeline, const char *text, const rm_view *parts,
                       uint32_t part_count, const char *wanted) {
    gives_text(pipeline, RM_JSON, TEXT(text), parts, part_count, TEXT(wanted));
    CHECK(output.text[output.len] == '\0'); /* rule 6 */
    CHECK(output.flags == RM_ESCAPED);      /* there may be */
}

static rm_pipeline *pass_through(void) {
    return one_node(NULL, "PassThrough", "{}");
}

static rm_pipeline *twice(void) {
    return one_node(NULL, "Calculator", "{\"operation\": \"multiply\", \"operand\": 2}");
}

/* A source whose values go to two sinks. */
static rm_pipeline *forked(const char *source) {
    char manifest[600];
    snprintf(
        manifest, sizeof manifest,
        "{\"version\": \"v1\", \"nodes\": [%s, {\"id\": \"b\", \"node_type\": \"PassThrough\"},"
        " {\"id\": \"c\", \"node_type\": \"PassThrough\"}], \"connections\":"
        " [{\"from\": \"a\", \"to\": \"b\"}, {\"from\": \"a\", \"to\": \"c\"}]}",
        source);
    rm_pipeline *pipeline = NULL;
    OK(rm_pipeline_new(NULL, TEXT(manifest), &pipeline, &error));
    return pipeline;
}

static float numbers[6] = {0, 1, 2, 3, 4, 5};
static const int64_t two_by_three[2] = {2, 3};

static rm_view bytes(const void *data, size_t len) {
    rm_view view = {.struct_size = sizeof view, .kind = RM_BYTES};
    view.data = (void *)data;
    view.byte_len = len;
    return view;
}

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

static rm_view audio(int64_t pts_us) {
    rm_view view = matrix();
    view.kind = RM_AUDIO;
    view.pts_us = pts_us;
    view.json = "{\"sample_rate\": 16000}";
    view.json_len = strlen(view.json);
    return view;
}

static bool is_two_by_three(const rm_view *view) {
    return view->ndim == 2 && view->shape[0] == 2 && view->shape[1] == 3 && view->strides[0] == 3 &&
           view->strides[1] == 1 && view->byte_len == sizeof numbers && view->device_type == 1 &&
           view->dtype_code == 2 && view->dtype_bits == 32 && view->dtype_lanes == 1;
}

static void json_goes_in_and_out(void) {
    rm_pipeline *pipeline = pass_through();
    const char *texts[] = {
        "[]",
        "[null,true,false,-1,1.5,\"a\\u0000b\",[],{\"z\":1,\"a\":[2]}]",
        "[18446744073709551615,-9223372036854775808,1e+300,-0.0]",
        "[{\"$rm\":\"NaN\"},{\"$rm\":\"-Infinity\"}]",
        "[{\"$rm\":{\"$rm\":1}}]",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        json_gives(pipeline, texts[i], NULL, 0, texts[i]);
        CHECK(output.part_count == 0);
        rm_run_free(run);
    }
    json_gives(pipeline, " {\"n\" : [1, 2]} ", NULL, 0, "[1,2]"); /* items by node */
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void what_it_gives_lives_as_long_as_the_run(void) {
    rm_pipeline *pipeline = pass_through();
    char text[] = "[\"kept\", {\"$rm\": 0}]";
    rm_view part = audio(7);
    json_gives(pipeline, text, &part, 1, "[\"kept\",{\"$rm\":0}]");
    memset(text, 0, sizeof text); /* only the memory of the parts must stay */
    memset(&part, 0, sizeof part);
    rm_pipeline_free(pipeline);
    CHECK(strcmp(output.text, "[\"kept\",{\"$rm\":0}]") == 0);
    CHECK(is_two_by_three(output.parts) && output.parts->pts_us == 7);

    rm_data *result = (rm_data *)&result; /* the run is over */
    FAILS(RM_E_CLOSED, rm_run_wait(run, -1, &result, NULL, &error));
    CHECK(result == NULL);
    rm_run_cancel(run);
    OK(rm_run_report(run, &result, &error));
    CHECK(says(result, "\"items\":2,\"items_done\":2"));
    CHECK(strcmp(output.text, "[\"kept\",{\"$rm\":0}]") == 0);
    rm_run_free(run);
}

static void parts_are_used_where_they_are(void) {
    rm_pipeline *pipeline = pass_through();
    const char *raw = "raw\0bytes";
    rm_view parts[] = {bytes(raw, 9), matrix(), audio(RM_NO_PTS), audio(-5)};
    json_gives(pipeline, "[{\"$rm\":2},{\"$rm\":0},{\"$rm\":3},{\"$rm\":1}]", parts, 4,
               "[{\"$rm\":0},{\"$rm\":1},{\"$rm\":2},{\"$rm\":3}]"); /* numbered anew */
    CHECK(output.part_count == 4);
    const rm_view *got = output.parts;
    for (int i = 0; i < 4; i++) {
        CHECK(got[i].struct_size == sizeof *got && !(got[i].flags & RM_WRITABLE));
        CHECK(got[i].json[got[i].json_len] == '\0' && got[i].child_count == 0);
    }
    CHECK(got[0].kind == RM_AUDIO && got[0].data == numbers && is_two_by_three(&got[0]));
    CHECK(got[0].pts_us == RM_NO_PTS && strcmp(got[0].json, "{\"sample_rate\":16000}") == 0);
    CHECK(got[0].json_len == strlen(got[0].json));
    CHECK(got[1].kind == RM_BYTES && got[1].data == raw && got[1].byte_len == 9);
    CHECK(got[1].json_len == 0 && got[1].pts_us == RM_NO_PTS && got[1].ndim == 0);
    CHECK(got[2].kind == RM_AUDIO && got[2].data == numbers && got[2].pts_us == -5);
    CHECK(got[3].kind == RM_TENSOR && got[3].data == numbers && is_two_by_three(&got[3]));
    CHECK(got[3].json_len == 0 && got[3].pts_us == RM_NO_PTS);
    rm_run_free(run);

    static uint8_t pixels[24];
    const int64_t shape[2] = {4, 6};
    rm_view frame = bytes(pixels, sizeof pixels);
    frame.kind = RM_VIDEO;
    frame.pts_us = 40000;
    frame.json = "{\"format\": \"gray\"}";
    frame.json_len = strlen(frame.json);
    frame.shape = shape;
    frame.ndim = 2;
    frame.dtype_code = 1;
    frame.dtype_bits = 8;
    frame.dtype_lanes = 1;
    json_gives(pipeline, "[{\"$rm\":0}]", &frame, 1, "[{\"$rm\":0}]");
    got = output.parts;
    CHECK(got->kind == RM_VIDEO && got->data == pixels && got->pts_us == 40000);
    CHECK(strcmp(got->json, "{\"format\":\"gray\"}") == 0 && got->ndim == 2 && got->shape[1] == 6);
    CHECK(!(got->flags & RM_WRITABLE));
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void parts_that_cannot_be_used_are_copied(void) {
    static const int64_t transposed[2] = {3, 2}, strides[2] = {1, 3}, none[2] = {0, 3};
    static char odd[sizeof numbers + 1];
    memcpy(odd + 1, numbers, sizeof numbers);
    rm_view parts[] = {matrix(), matrix(), matrix(), matrix(), bytes(NULL, 0)};
    parts[0].shape = transposed;
    parts[0].strides = strides;
    parts[1].data = odd + 1;
    parts[2].shape = none;
    parts[2].byte_len = 0;
    parts[2].data = NULL;
    parts[3].ndim = 0; /* a single number */
    parts[3].shape = NULL;
    parts[3].byte_len = sizeof *numbers;
    rm_pipeline *pipeline = pass_through();
    json_gives(pipeline, "[{\"$rm\":0},{\"$rm\":1},{\"$rm\":2},{\"$rm\":3},{\"$rm\":4}]", parts, 5,
               "[{\"$rm\":0},{\"$rm\":1},{\"$rm\":2},{\"$rm\":3},{\"$rm\":4}]");
    const rm_view *got = output.parts;
    const float *first = got[0].data;
    CHECK(first != numbers && got[0].shape[0] == 3 && got[0].strides[0] == 2);
    CHECK(first[0] == 0 && first[1] == 3 && first[2] == 1 && first[5] == 5);
    CHECK(got[1].data != (void *)(odd + 1) && (uintptr_t)got[1].data % 64 == 0);
    CHECK(memcmp(got[1].data, numbers, sizeof numbers) == 0 && is_two_by_three(&got[1]));
    CHECK(got[2].byte_len == 0 && got[2].ndim == 2 && got[2].shape[1] == 3);
    CHECK(got[3].ndim == 0 && got[3].data == numbers && got[3].byte_len == sizeof *numbers);
    CHECK(got[4].kind == RM_BYTES && got[4].byte_len == 0);
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void a_result_in_fresh_memory_may_be_written_to(void) {
    rm_pipeline *pipeline = twice();
    rm_view part = matrix();
    json_gives(pipeline, "[{\"$rm\":0}]", &part, 1, "[{\"$rm\":0}]");
    CHECK(output.part_count == 1 && output.parts->flags == RM_WRITABLE);
    CHECK(is_two_by_three(output.parts));
    float *fresh = output.parts->data;
    CHECK(fresh != numbers && (uintptr_t)fresh % 64 == 0);
    for (int i = 0; i < 6; i++) {
        CHECK(fresh[i] == 2 * (float)i && numbers[i] == (float)i);
        fresh[i] = -1;
    }
    rm_run_free(run);
    CHECK(numbers[5] == 5);

    /* Whole numbers are computed elsewhere, and just as new. */
    static int32_t whole[6] = {1, 2, 3, 4, 5, 6};
    part.data = whole;
    part.dtype_code = 0;
    json_gives(pipeline, "[{\"$rm\":0}]", &part, 1, "[{\"$rm\":0}]");
    CHECK(output.parts->flags == RM_WRITABLE && output.parts->data != whole);
    CHECK(((int32_t *)output.parts->data)[5] == 12 && whole[5] == 6);
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void what_two_refer_to_is_not_to_be_written_to(void) {
    /* Made anew for each of the two that refer to the part. */
    rm_pipeline *pipeline = twice();
    rm_view part = matrix();
    json_gives(pipeline, "[{\"$rm\":0},{\"$rm\":0}]", &part, 1, "[{\"$rm\":0},{\"$rm\":1}]");
    CHECK(output.part_count == 2 && output.parts[0].data != output.parts[1].data);
    CHECK(output.parts[0].flags == RM_WRITABLE && output.parts[1].flags == RM_WRITABLE);
    CHECK(((float *)output.parts[1].data)[5] == 10 && numbers[5] == 5);
    rm_run_free(run);
    rm_pipeline_free(pipeline);

    pipeline = pass_through();
    json_gives(pipeline, "[{\"$rm\":0},[{\"$rm\":0}]]", &part, 1, "[{\"$rm\":0},[{\"$rm\":1}]]");
    CHECK(output.part_count == 2 && output.parts[0].data == numbers);
    CHECK(output.parts[1].data == numbers && !output.parts[0].flags && !output.parts[1].flags);
    rm_run_free(run);
    rm_pipeline_free(pipeline);

    /* Fresh memory, but it has come to both sinks. */
    pipeline = forked("{\"id\": \"a\", \"node_type\": \"Multiply\", \"params\": {\"factor\": 2}}");
    json_gives(pipeline, "[{\"$rm\":0}]", &part, 1, "[{\"$rm\":0},{\"$rm\":1}]");
    CHECK(output.part_count == 2 && output.parts[0].data == output.parts[1].data);
    CHECK(output.parts[0].data != numbers);
    CHECK(!output.parts[0].flags && !output.parts[1].flags);
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void parts_stand_anywhere_in_a_value(void) {
    rm_view parts[] = {bytes("unused", 6), matrix(), bytes("ab", 2)};
    rm_pipeline *pipeline = one_node(NULL, "Buffer", "{\"buffer_size\": 2}");
    json_gives(pipeline,
               "[{\"a\":{\"b\":[[{\"$rm\":1}],{\"$rm\":2}]}},{\"$rm\":{\"$rm\":{\"$rm\":2}}}]",
               parts, 3,
               "[[{\"a\":{\"b\":[[{\"$rm\":0}],{\"$rm\":1}]}},{\"$rm\":{\"$rm\":{\"$rm\":2}}}]]");
    CHECK(output.part_count == 3 && output.parts[0].data == numbers);
    CHECK(output.parts[1].data == output.parts[2].data && output.parts[1].kind == RM_BYTES);
    CHECK(!output.parts[0].flags);
    rm_run_free(run);

    /* The same in the other format. */
    gives_text(
        pipeline, RM_MARSHAL,
        BYTES("(" N2 "{u" N1 "a(" N1 ESCAPE "i" N1 "00" ESCAPE ESCAPE ESCAPE "i" N2 "000"), parts,
        3,
        BYTES("[" N1 "[" N2 "{u" N1 "a[" N1 ESCAPE "i" N0 "00" ESCAPE ESCAPE ESCAPE "i" N1 "000"));
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void marshal_goes_in_and_out(void) {
    rm_pipeline *pipeline = pass_through();
#define SAME(text)                                                                                 \
    gives_text(pipeline, RM_MARSHAL, BYTES(text), NULL, 0, BYTES(text)), rm_run_free(run)
#define BECOMES(text, wanted)                                                                      \
    gives_text(pipeline, RM_MARSHAL, BYTES(text), NULL, 0, BYTES(wanted)), rm_run_free(run)
    SAME("[" N0);
    SAME("[" N3 "NTF");
    SAME("[" N4 "i" N0 "i\377\377\377\377i\377\377\377\177i\000\000\000\200");
    SAME("[" N2
         "g\000\000\000\000\000\000\370\077g\000\000\000\000\000\000\000\200"); /* 1.5 -0.0 */
    SAME("[" N2
         "g\000\000\000\000\000\000\370\177g\000\000\000\000\000\000\360\377"); /* NaN -inf */
    SAME("[" N3 "u" N0 "u" N2 "\303\244u" N3 "a\000b");
    SAME("[" N1 "[" N2 "[" N0 "[" N1 "N");
    SAME("[" N2 "{0{u" N1 "z{u" N0 "i" N1 "0u" N1 "aN0");
    /* 2**31, 2**40 and -2**40; the ends of 64 bits */
    SAME("[" N1 "l" N3 "\000\000\000\000\002\000");
    SAME("[" N2 "l" N3 "\000\000\000\000\000\004l\375\377\377\377\000\000\000\000\000\004");
    SAME("[" N1 "l" N5 "\377\177\377\177\377\177\377\177\017\000");
    SAME("[" N1 "l\373\377\377\377\000\000\000\000\000\000\000\000\010\000");
    SAME("[" N1 "l" N5 "\377\177\377\177\377\177\377\177\007\000");
    BECOMES("(" N1 "(" N1 "i" N2, "[" N1 "[" N1 "i" N2);
    BECOMES("[" N3 "l" N0 "l" N1 "\005\000l\377\377\377\377\005\000",
            "[" N3 "i" N0 "i" N5 "i\373\377\377\377");
    BECOMES("{u" N1 "n[" N1 "i" N6 "0", "[" N1 "i" N6); /* items by node */
    rm_pipeline_free(pipeline);

    pipeline = twice();
    BECOMES("[" N2 "i" N2 "g\000\000\000\000\000\000\370\077",
            "[" N2 "i" N4 "g\000\000\000\000\000\000\010\100");
    /* 2**30 twice is 2**31, and 2**63 twice is too much */
    BECOMES("[" N1 "i\000\000\000\100", "[" N1 "l" N3 "\000\000\000\000\002\000");
    REFUSED(RM_E_NODE, pipeline, RM_MARSHAL,
            BYTES("[" N1 "l" N5 "\000\000\000\000\000\000\000\000\010\000"), NULL, 0);
    rm_view part = matrix();
    gives_text(pipeline, RM_MARSHAL, BYTES("[" N2 ESCAPE "i" N0 "0i" N1), &part, 1,
               BYTES("[" N2 ESCAPE "i" N0 "0i" N2));
    CHECK(output.part_count == 1 && output.parts->flags == RM_WRITABLE);
    CHECK(((float *)output.parts->data)[4] == 8 && numbers[4] == 4);
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void the_flag_tells_of_escapes(void) {
    rm_pipeline *pipeline = pass_through();
    rm_view part = bytes("ab", 2);
    gives_text(pipeline, RM_MARSHAL, BYTES("[" N1 "u" N3 "$rm"), &part, 1,
               BYTES("[" N1 "u" N3 "$rm"));
    CHECK(output.flags == 0 && output.part_count == 0); /* a text is no key */
    rm_run_free(run);
    gives_text(pipeline, RM_MARSHAL, BYTES("[" N1 "{u" N1 "ai" N0 "0"), NULL, 0,
               BYTES("[" N1 "{u" N1 "ai" N0 "0"));
    CHECK(output.flags == 0);
    rm_run_free(run);
    gives_text(pipeline, RM_MARSHAL, BYTES("[" N1 ESCAPE "i" N0 "0"), &part, 1,
               BYTES("[" N1 ESCAPE "i" N0 "0"));
    CHECK(output.flags == RM_ESCAPED && output.part_count == 1);
    rm_run_free(run);
    gives_text(pipeline, RM_MARSHAL, BYTES("[" N1 ESCAPE ESCAPE "i" N0 "00"), NULL, 0,
               BYTES("[" N1 ESCAPE ESCAPE "i" N0 "00"));
    CHECK(output.flags == RM_ESCAPED && output.part_count == 0);
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void in_plain_marshal_no_dict_is_special(void) {
    rm_pipeline *pipeline = pass_through();
    /* The object stays what it is, and so it comes back escaped. */
    gives_text(pipeline, RM_MARSHAL_PLAIN, BYTES("[" N1 ESCAPE "i" N0 "0"), NULL, 0,
               BYTES("[" N1 ESCAPE ESCAPE "i" N0 "00"));
    CHECK(output.flags == RM_ESCAPED && output.part_count == 0);
    rm_run_free(run);
    gives_text(pipeline, RM_MARSHAL_PLAIN, BYTES("[" N1 ESCAPE "Nu" N1 "aN0"), NULL, 0,
               BYTES("[" N1 ESCAPE ESCAPE "Nu" N1 "aN00"));
    rm_run_free(run);
    gives_text(pipeline, RM_MARSHAL_PLAIN, BYTES("(" N2 "i" N1 "T"), NULL, 0,
               BYTES("[" N2 "i" N1 "T"));
    CHECK(output.flags == 0);
    rm_run_free(run);

    rm_view part = matrix(); /* nothing refers to it */
    gives_text(pipeline, RM_MARSHAL_PLAIN, BYTES("[" N1 ESCAPE "i" N0 "0"), &part, 1,
               BYTES("[" N1 ESCAPE ESCAPE "i" N0 "00"));
    CHECK(output.part_count == 0);
    rm_run_free(run);
    REFUSED(RM_E_ARGUMENT, pipeline, RM_MARSHAL_PLAIN, BYTES("[" N1 "s" N1 "x"), NULL, 0);
    rm_pipeline_free(pipeline);
}

static void marshal_that_is_no_value_is_refused(void) {
    rm_pipeline *pipeline = pass_through();
    rm_view part = bytes("ab", 2);
#define BAD(text) REFUSED(RM_E_ARGUMENT, pipeline, RM_MARSHAL, BYTES("[" N1 text), &part, 1)
    for (int type = 0; type < 256; type++) { /* with enough behind it for any of them */
        char text[60] = "[" N1;
        memset(text + 5, 0, sizeof text - 5);
        text[5] = (char)type;
        bool known = type && strchr("NTFilgu[({", type);
        if (!known) REFUSED(RM_E_ARGUMENT, pipeline, RM_MARSHAL, text, sizeof text, NULL, 0);
    }
    BAD("s" N1 "x");
    BAD("l" N6 "\000\000\000\000\000\000\000\000\000\000\001\000");
    BAD("l" N5 "\000\000\000\000\000\000\000\000\020\000");           /* 2**64 */
    BAD("l\373\377\377\377\001\000\000\000\000\000\000\000\010\000"); /* -2**63 - 1 */
    BAD("l\000\000\000\200\001\000");                                 /* -2**31 digits */
    BAD("l" N1 "\000\200");                                           /* a digit of 16 bits */
    BAD("{N0");                                                       /* keys */
    BAD("{i" N0 "N0");
    BAD("{u" N1 "aNu" N1 "aN0"); /* twice */
    BAD("NN");                   /* something behind it */
    BAD("N0");
    BAD(ESCAPE "i" N1 "0"); /* no such part */
    BAD(ESCAPE "i\377\377\377\3770");
    BAD(ESCAPE "N0");
    BAD(ESCAPE "u" N3 "NaN0");
    BAD(ESCAPE "[" N0 "0");
    BAD(ESCAPE "i" N0 "u" N1 "aN0"); /* not alone */
    BAD("{u" N1 "aNu" N3 "$rmi" N0 "0");
    REFUSED(RM_E_UTF8, pipeline, RM_MARSHAL, BYTES("[" N1 "u" N1 "\377"), NULL, 0);
    REFUSED(RM_E_UTF8, pipeline, RM_MARSHAL, BYTES("[" N1 "u" N3 "\355\240\200"), NULL, 0);
    REFUSED(RM_E_UTF8, pipeline, RM_MARSHAL, BYTES("[" N1 "{u" N1 "\200N0"), NULL, 0);
    REFUSED(RM_E_ARGUMENT, pipeline, RM_MARSHAL, BYTES("i" N1), NULL, 0); /* not a list */
    REFUSED(RM_E_ARGUMENT, pipeline, RM_MARSHAL, BYTES("{u" N1 "x[" N0 "0"), NULL, 0);
    rm_pipeline_free(pipeline);
}

static void marshal_that_ends_too_early_is_refused(void) {
    rm_pipeline *pipeline = pass_through();
    rm_view part = bytes("ab", 2);
    static const char text[] =
        "[" N6 "i" N1 "l" N3 "\000\000\000\000\002\000g\000\000\000\000\000\000\370\077{u" N2
        "ab(" N2 "TF0" ESCAPE "i" N0 "0" ESCAPE ESCAPE "i" N0 "00";
    const size_t len = sizeof text - 1;
    OK(call(pipeline, RM_MARSHAL, text, len, &part, 1, -1));
    rm_run_free(run);
    for (size_t end = 1; end < len; end++) {
        char *exact = malloc(end); /* nobody reads beyond it */
        CHECK(exact != NULL);
        memcpy(exact, text, end);
        REFUSED(RM_E_ARGUMENT, pipeline, RM_MARSHAL, exact, end, &part, 1);
        REFUSED(RM_E_ARGUMENT, pipeline, RM_MARSHAL_PLAIN, exact, end, NULL, 0);
        free(exact);
    }
    /* Lengths that nothing stands behind. */
    REFUSED(RM_E_ARGUMENT, pipeline, RM_MARSHAL, BYTES("[\377\377\377\177"), NULL, 0);
    REFUSED(RM_E_ARGUMENT, pipeline, RM_MARSHAL, BYTES("[\377\377\377\377"), NULL, 0);
    REFUSED(RM_E_ARGUMENT, pipeline, RM_MARSHAL, BYTES("[" N1 "u\377\377\377\377"), NULL, 0);
    REFUSED(RM_E_ARGUMENT, pipeline, RM_MARSHAL, BYTES("[" N1 "l\377\377\377\177"), NULL, 0);
    rm_pipeline_free(pipeline);
}

static void json_that_cannot_be_read_is_refused(void) {
    rm_pipeline *pipeline = pass_through();
    rm_view part = bytes("ab", 2);
    const char *texts[] = {" ",
                           "[1",
                           "[1]]",
                           "[1,]",
                           "{\"a\":1,\"a\":2}",
                           "[NaN]",
                           "[1e400]",
                           "nul",
                           "[18446744073709551616]",
                           "[{\"$rm\":1}]",
                           "[{\"$rm\":-1}]",
                           "[{\"$rm\":0,\"a\":1}]",
                           "[{\"$rm\":\"Nan\"}]",
                           "[{\"$rm\":4294967296}]"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        REFUSED(RM_E_JSON, pipeline, RM_JSON, TEXT(texts[i]), &part, 1);
    FAILS_WITH(RM_E_JSON, "binary part 3, but there are 1",
               call(pipeline, RM_JSON, TEXT("[{\"$rm\":3}]"), &part, 1, -1));
    REFUSED(RM_E_JSON, pipeline, RM_JSON, TEXT("[{\"$rm\":0}]"), NULL, 0);
    REFUSED(RM_E_JSON, pipeline, RM_JSON, BYTES("[1]\0"), NULL, 0);
    rm_status status = call(pipeline, RM_JSON, BYTES("[\"\377\"]"), NULL, 0, -1);
    CHECK(status == RM_E_UTF8 || status == RM_E_JSON);
    CHECK(run == NULL && is_empty());
    rm_error_free(error);
    error = NULL;
    REFUSED(RM_E_ARGUMENT, pipeline, RM_JSON, TEXT("1"), NULL, 0);
    REFUSED(RM_E_ARGUMENT, pipeline, RM_JSON, TEXT("{\"x\":[]}"), NULL, 0);
    REFUSED(RM_E_ARGUMENT, pipeline, RM_JSON, TEXT("{\"n\":1}"), NULL, 0);
    REFUSED(RM_E_ARGUMENT, pipeline, RM_JSON, TEXT("{\"$rm\":0}"), &part, 1); /* bytes */
    rm_pipeline_free(pipeline);
}

/* Lists in lists, of which the innermost is empty. */
static void nest(char *text, size_t size, const char *before, int levels, const char *after) {
    size_t len = (size_t)snprintf(text, size, "%s", before);
    memset(text + len, '[', (size_t)levels);
    memset(text + len + levels, ']', (size_t)levels);
    snprintf(text + len + 2 * levels, size - len - 2 * (size_t)levels, "%s", after);
}

static size_t nest_marshal(char *text, const char *before, size_t len, int levels) {
    memcpy(text, before, len);
    for (int level = 1; level <= levels; level++, len += 5)
        memcpy(text + len, level < levels ? "[" N1 : "[" N0, 5);
    return len;
}

static void an_item_is_nested_up_to_the_limit(void) {
    static char text[1000];
    rm_runtime *runtime = NULL;
    OK(rm_runtime_new(TEXT("{\"limits\": {\"value_depth\": 3}}"), &runtime, &error));
    rm_pipeline *pipelines[] = {pass_through(), one_node(runtime, "PassThrough", "{}")};
    for (int i = 0; i < 2; i++) {
        rm_pipeline *pipeline = pipelines[i];
        int most = i ? 3 : 100;
        const char *around[][2] = {{"[", "]"}, {"{\"n\":[", "]}"}, {" \n{\"n\":[", "]}"}};
        for (int j = 0; j < 3; j++) {
            nest(text, sizeof text, around[j][0], most, around[j][1]);
            OK(call(pipeline, RM_JSON, TEXT(text), NULL, 0, -1));
            rm_run_free(run);
            nest(text, sizeof text, around[j][0], most + 1, around[j][1]);
            REFUSED(RM_E_LIMIT, pipeline, RM_JSON, TEXT(text), NULL, 0);
        }
        for (uint32_t kind = RM_MARSHAL; kind <= RM_MARSHAL_PLAIN; kind++) {
            size_t len = nest_marshal(text, BYTES("[" N1), most);
            OK(call(pipeline, kind, text, len, NULL, 0, -1));
            rm_run_free(run);
            len = nest_marshal(text, BYTES("[" N1), most + 1);
            REFUSED(RM_E_LIMIT, pipeline, kind, text, len, NULL, 0);
            len = nest_marshal(text, BYTES("{u" N1 "n[" N1), most);
            text[len] = '0';
            OK(call(pipeline, kind, text, len + 1, NULL, 0, -1));
            rm_run_free(run);
            len = nest_marshal(text, BYTES("{u" N1 "n[" N1), most + 1);
            text[len] = '0';
            REFUSED(RM_E_LIMIT, pipeline, kind, text, len + 1, NULL, 0);
        }
        rm_pipeline_free(pipeline);
    }
    rm_runtime_free(runtime);
}

static void null_is_refused_and_outs_are_null(void) {
    rm_pipeline *pipeline = pass_through();
    rm_view part = matrix();
    REFUSED(RM_E_ARGUMENT, NULL, RM_JSON, TEXT("[]"), NULL, 0);
    REFUSED(RM_E_ARGUMENT, pipeline, RM_JSON, NULL, 2, NULL, 0);
    REFUSED(RM_E_ARGUMENT, pipeline, RM_MARSHAL, NULL, 2, NULL, 0);
    REFUSED(RM_E_ARGUMENT, pipeline, RM_JSON, "[]", SIZE_MAX, NULL, 0);
    REFUSED(RM_E_ARGUMENT, pipeline, RM_JSON, TEXT("[]"), NULL, 1);
    REFUSED(RM_E_ARGUMENT, pipeline, RM_JSON, TEXT("[]"), NULL, UINT32_MAX);
    char place[2 * sizeof part] = {0};
    char *odd = place + (8 - (uintptr_t)place % 8) + 1;
    REFUSED(RM_E_ARGUMENT, pipeline, RM_JSON, TEXT("[]"), (rm_view *)(void *)odd, 1);

    /* Without a struct there is no place for an error either. */
    CHECK(rm_call_run(NULL, TEXT("[]")) == RM_E_ARGUMENT);
    CHECK(rm_call_run((rm_call *)(void *)odd, TEXT("[]")) == RM_E_ARGUMENT);
    rm_call_clear(NULL);
    rm_call_clear((rm_call *)(void *)odd);
    json_gives(pipeline, "[]", &part, 0, "[]"); /* none of this harmed it */
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void kinds_that_do_not_belong_are_refused(void) {
    rm_pipeline *pipeline = pass_through();
    uint32_t kinds[] = {RM_TEXT, RM_BYTES, RM_TENSOR, RM_AUDIO, 7, UINT32_MAX};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        REFUSED(RM_E_ARGUMENT, pipeline, kinds[i], TEXT("[]"), NULL, 0);
    uint32_t no_parts[] = {RM_JSON, RM_TEXT, RM_MARSHAL, RM_MARSHAL_PLAIN, 7, UINT32_MAX};
    for (size_t i = 0; i < sizeof no_parts / sizeof *no_parts; i++) {
        rm_view part = bytes("[]", 2);
        part.kind = no_parts[i];
        part.json = "[]";
        part.json_len = 2;
        REFUSED(RM_E_ARGUMENT, pipeline, RM_JSON, TEXT("[]"), &part, 1);
    }
    /* Nor is there anything but a call that marshal can be given to. */
    rm_view view = bytes("[" N0, 5);
    view.kind = RM_MARSHAL;
    rm_data *data = (rm_data *)&data;
    FAILS(RM_E_ARGUMENT, rm_data_new(&view, NULL, NULL, &data, &error));
    CHECK(data == NULL);
    rm_pipeline_free(pipeline);
}

static void parts_that_are_wrong_are_refused(void) {
    rm_pipeline *pipeline = pass_through();
    /* The second of two, so that the first has to be given back. */
#define BAD_PART(code, change)                                                                     \
    do {                                                                                           \
        rm_view parts[2] = {matrix(), audio(RM_NO_PTS)}, *part = &parts[1];                        \
        change;                                                                                    \
        REFUSED(code, pipeline, RM_JSON, TEXT("[{\"$rm\":0}]"), parts, 2);                         \
    } while (0)
    BAD_PART(RM_E_ARGUMENT, part->struct_size = 0);
    BAD_PART(RM_E_ARGUMENT, part->struct_size = sizeof *part - 1);
    BAD_PART(RM_E_ARGUMENT, part[-1].struct_size = 0);
    BAD_PART(RM_E_ARGUMENT, part[-1].struct_size = sizeof *part - 1);
    BAD_PART(RM_E_ARGUMENT, part->data = NULL);
    BAD_PART(RM_E_ARGUMENT, part->byte_len--);
    BAD_PART(RM_E_ARGUMENT, part->byte_len = UINT64_MAX);
    BAD_PART(RM_E_ARGUMENT, part->shape = NULL);
    BAD_PART(RM_E_ARGUMENT, part->ndim = 65);
    BAD_PART(RM_E_ARGUMENT, part->ndim = -1);
    BAD_PART(RM_E_ARGUMENT, part->json_len = 0);
    BAD_PART(RM_E_ARGUMENT, part->json = NULL);
    BAD_PART(RM_E_ARGUMENT, part->json = "{\"sample_rate\": 0}    ");
    BAD_PART(RM_E_UTF8, part->json = "{\"sample_rate\377: 16000}");
    BAD_PART(RM_E_UNSUPPORTED, part->device_type = 2);
    BAD_PART(RM_E_UNSUPPORTED, part->dtype_lanes = 2);
    BAD_PART(RM_E_UNSUPPORTED, part->dtype_bits = 33);
    BAD_PART(RM_E_ARGUMENT, (part->kind = RM_BYTES, part->data = NULL));
    rm_pipeline_free(pipeline);
}

static void structs_state_their_size(void) {
    struct newer_call {
        rm_call call;
        uint64_t more;
    } newer;
    rm_pipeline *pipeline = pass_through();
    uint32_t wrong[] = {0, 1, sizeof newer.call - 1};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        memset(&newer, 'x', sizeof newer);
        newer.call.struct_size = wrong[i];
        CHECK(run_call(pipeline, RM_JSON, TEXT("[]"), 0, -1, &newer.call) == RM_E_ARGUMENT);
        CHECK(newer.call.struct_size == wrong[i]);
        CHECK(newer.call.given == 0x78787878); /* nobody knows what may be written */
    }
    /* A host with a newer header gets the fields that the library knows. */
    newer.call = (rm_call){.struct_size = sizeof newer, .timeout_ms = -1};
    newer.more = 7;
    CHECK(run_call(pipeline, RM_JSON, TEXT("[1]"), 0, -1, &newer.call) == RM_OK);
    CHECK(newer.call.struct_size == sizeof newer && newer.more == 7);
    CHECK(strcmp(newer.call.text, "[1]") == 0);
    rm_call_clear(&newer.call);
    CHECK(newer.call.run == NULL && newer.call.error == NULL);

    /* Its views are larger, and the second comes after the whole of the first. */
    struct newer_view {
        rm_view view;
        char more[16];
    } views[2] = {{matrix(), "more"}, {bytes("ab", 2), "more"}};
    views[0].view.struct_size = views[1].view.struct_size = sizeof *views;
    json_gives(pipeline, "[{\"$rm\":1},{\"$rm\":0}]", &views->view, 2, "[{\"$rm\":0},{\"$rm\":1}]");
    CHECK(output.part_count == 2 && output.parts[0].struct_size == sizeof(rm_view));
    CHECK(output.parts[0].byte_len == 2 && output.parts[1].data == numbers);
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void other_objects_are_told_apart(void) {
    rm_data *data = json("[]");
    REFUSED(RM_E_ARGUMENT, (rm_pipeline *)data, RM_JSON, TEXT("[]"), NULL, 0);
    CHECK(gives(data, "[]"));
    char odd[8] = {0};
    REFUSED(RM_E_ARGUMENT, (rm_pipeline *)(void *)(odd + 1), RM_JSON, TEXT("[]"), NULL, 0);
}

/* A pair of a value and of the counts of a pipeline with one node. */
#define PAIR(value) BYTES("(" N2 value "s\160\000\000\000")
#define COUNTS 112

static bool is_pair(const rm_call *call, const char *value, size_t len) {
    return call->len == len + COUNTS && memcmp(call->text, value, len) == 0;
}

static void a_detached_call_leaves_no_run(void) {
    rm_pipeline *pipeline = pass_through();
    char room[200];
    rm_call call = {.struct_size = sizeof call, .flags = RM_DETACH, .timeout_ms = -1};
    call.buffer = room;
    call.buffer_len = sizeof room;
    CHECK(run_call(pipeline, RM_MARSHAL_PLAIN, BYTES("[" N1 "i" N3), 0, -1, &call) == RM_OK);
    CHECK(!call.run && !call.error && !call.given && call.text == room);
    CHECK(is_pair(&call, PAIR("[" N1 "i" N3)));

    rm_data *report = NULL;
    OK(rm_pipeline_report(pipeline, room + call.len - COUNTS, COUNTS, &report, &error));
    const char *json = view_of(report).json;
    CHECK(strstr(json, "{\"items\":1,\"items_done\":1,\"time_us\":") == json);
    CHECK(strstr(json, "\"node_type\":\"PassThrough\",\"items_in\":1,\"items_out\":1,"));
    rm_data_free(report);
    FAILS(RM_E_ARGUMENT, rm_pipeline_report(pipeline, room, COUNTS - 1, &report, &error));
    FAILS(RM_E_ARGUMENT, rm_pipeline_report(pipeline, room, COUNTS + 8, &report, &error));
    FAILS(RM_E_ARGUMENT, rm_pipeline_report(pipeline, NULL, COUNTS, &report, &error));
    FAILS(RM_E_ARGUMENT, rm_pipeline_report(pipeline, room, COUNTS, NULL, &error));
    FAILS(RM_E_ARGUMENT, rm_pipeline_report(NULL, room, COUNTS, &report, &error));
    CHECK(report == NULL);

    /* Where there is no room, a run holds the text. */
    call.buffer_len = 5 + 5 + 5 + 5 + COUNTS - 1;
    CHECK(run_call(pipeline, RM_MARSHAL_PLAIN, BYTES("[" N1 "i" N3), 0, -1, &call) == RM_OK);
    CHECK(call.run && call.given == RM_HELD && call.text != room);
    CHECK(is_pair(&call, PAIR("[" N1 "i" N3)));
    rm_call_clear(&call);
    call.buffer = NULL;
    CHECK(run_call(pipeline, RM_MARSHAL_PLAIN, BYTES("[" N1 "i" N3), 0, -1, &call) == RM_OK);
    CHECK(call.run && call.given == RM_HELD);
    rm_call_clear(&call);

    /* JSON has no bytes, so there the run has the counts. */
    call.buffer = room;
    CHECK(run_call(pipeline, RM_JSON, TEXT("[3]"), 0, -1, &call) == RM_OK);
    CHECK(call.run && strcmp(call.text, "[3]") == 0);
    rm_call_clear(&call);

    call.timeout_ms = 0;
    CHECK(run_call(pipeline, RM_MARSHAL, BYTES("[" N0), 0, -1, &call) == RM_E_TIMEOUT);
    CHECK(!call.run && call.error && !call.text && !call.given);
    rm_call_clear(&call);
    rm_pipeline_free(pipeline);
}

static void parts_that_come_back_as_they_were_need_no_text(void) {
    rm_pipeline *pipeline = pass_through(), *both = forked("{\"id\": \"a\", \"node_type\": "
                                                           "\"PassThrough\"}");
    char room[400];
    static float more[6];
    rm_view parts[2] = {matrix(), matrix()};
    parts[1].data = more;
    rm_call call = {.struct_size = sizeof call, .flags = RM_DETACH, .timeout_ms = -1};
    call.buffer = room;
    call.buffer_len = sizeof room;
    call.parts = parts;
    for (uint32_t count = 1; count <= 2; count++) {
        CHECK(run_call(pipeline, RM_MARSHAL, NULL, 0, count, -1, &call) == RM_OK);
        CHECK(!call.run && call.given == RM_UNCHANGED && !call.given_parts && !call.given_count);
        CHECK(is_pair(&call, PAIR("N")));
    }
    /* Also if a text says so; but not in another order, twice, or inside of something. */
    CHECK(run_call(pipeline, RM_MARSHAL, BYTES("[" N2 ESCAPE "i" N0 "0" ESCAPE "i" N1 "0"), 2, -1,
                   &call) == RM_OK);
    CHECK(!call.run && call.given == RM_UNCHANGED);
#define HELD(pipeline, text, count)                                                                \
    CHECK(run_call(pipeline, RM_MARSHAL, text, 2, -1, &call) == RM_OK);                            \
    CHECK(call.run &&call.given == (RM_ESCAPED | RM_HELD) && call.given_count == (count));         \
    CHECK(call.given_parts->flags == 0);                                                           \
    rm_call_clear(&call)
    HELD(pipeline, BYTES("[" N2 ESCAPE "i" N1 "0" ESCAPE "i" N0 "0"), 2);
    HELD(pipeline, BYTES("[" N2 ESCAPE "i" N0 "0" ESCAPE "i" N0 "0"), 2);
    HELD(pipeline, BYTES("[" N1 ESCAPE "i" N0 "0"), 1);
    HELD(pipeline, BYTES("[" N2 ESCAPE "i" N0 "0[" N1 ESCAPE "i" N1 "0"), 2);
    HELD(both, BYTES("[" N1 ESCAPE "i" N0 "0"), 2);
    /* A change makes other memory of it. */
    rm_pipeline *other = twice();
    CHECK(run_call(other, RM_MARSHAL, NULL, 0, 2, -1, &call) == RM_OK);
    CHECK(call.given == (RM_ESCAPED | RM_HELD) && call.given_count == 2);
    CHECK(call.given_parts->flags == RM_WRITABLE && call.given_parts->data != numbers);
    rm_call_clear(&call);
    /* Nor is it what it was if it had to be copied, or if it is audio. */
    static const int64_t turned[2] = {1, 2};
    parts[1].strides = turned;
    CHECK(run_call(pipeline, RM_MARSHAL, NULL, 0, 2, -1, &call) == RM_OK);
    CHECK(call.given == (RM_ESCAPED | RM_HELD) && call.given_count == 2);
    rm_call_clear(&call);
    parts[1] = audio(RM_NO_PTS);
    CHECK(run_call(pipeline, RM_MARSHAL, NULL, 0, 2, -1, &call) == RM_OK);
    CHECK(call.given == (RM_ESCAPED | RM_HELD) && call.given_count == 2);
    rm_call_clear(&call);
    /* Without text and parts there are no items. */
    CHECK(run_call(pipeline, RM_MARSHAL, NULL, 0, 0, -1, &call) == RM_OK);
    CHECK(!call.run && !call.given && is_pair(&call, PAIR("[" N0)));
    rm_pipeline_free(pipeline);
    rm_pipeline_free(both);
    rm_pipeline_free(other);
}

static void a_call_goes_on_where_it_stopped(void) {
    rm_pipeline *pipeline = pass_through();
    char room[200];
    rm_view part = matrix();
    rm_call call = {.struct_size = sizeof call, .flags = RM_DETACH, .timeout_ms = -1};
    CHECK(rm_call_wait(NULL) == RM_E_ARGUMENT);
    CHECK(rm_call_wait(&call) == RM_E_ARGUMENT && call.error); /* there is no run */
    rm_call_clear(&call);
    call.buffer = room;
    call.buffer_len = sizeof room;
    call.parts = &part;
    /* What comes is what one call would have given, and the run stays. */
    CHECK(run_call(pipeline, RM_MARSHAL, NULL, 0, 1, 0, &call) == RM_AGAIN);
    CHECK(call.run && !call.given && !call.text);
    rm_run *same = call.run;
    call.slice_us = -1;
    CHECK(rm_call_wait(&call) == RM_OK);
    CHECK(call.run == same && !call.error && call.given == RM_UNCHANGED);
    CHECK(call.text == room && is_pair(&call, PAIR("N")));
    CHECK(rm_call_wait(&call) == RM_E_CLOSED);
    CHECK(call.run == same && call.error && !call.given && !call.text && !call.len);
    rm_call_clear(&call);

    /* In the run's memory, where there is no room or there are parts. */
    call.buffer_len = 5;
    CHECK(run_call(pipeline, RM_MARSHAL_PLAIN, BYTES("[" N1 "i" N3), 0, 0, &call) == RM_AGAIN);
    call.slice_us = -1;
    CHECK(rm_call_wait(&call) == RM_OK);
    CHECK(call.given == RM_HELD && call.text != room && is_pair(&call, PAIR("[" N1 "i" N3)));
    rm_call_clear(&call);
    call.buffer_len = sizeof room;
    CHECK(run_call(pipeline, RM_MARSHAL, BYTES("[" N2 ESCAPE "i" N0 "0i" N1), 1, 0, &call) ==
          RM_AGAIN);
    call.slice_us = -1;
    CHECK(rm_call_wait(&call) == RM_OK);
    CHECK(call.given == (RM_ESCAPED | RM_HELD) && call.given_count == 1);
    CHECK(call.given_parts->data == numbers);
    rm_call_clear(&call);
    call.flags = 0;
    CHECK(run_call(pipeline, RM_JSON, TEXT("[3]"), 0, 0, &call) == RM_AGAIN);
    call.slice_us = -1;
    CHECK(rm_call_wait(&call) == RM_OK && call.given == (RM_ESCAPED | RM_HELD));
    CHECK(strcmp(call.text, "[3]") == 0);
    rm_call_clear(&call);
    rm_pipeline_free(pipeline);

    /* Step by step; a failure stays in the struct, and so does the run. */
    pipeline = one_node(NULL, "TestSpin", "{\"when\": \"never\"}");
    rm_status status = run_call(pipeline, RM_JSON, TEXT("[1,2,3]"), 0, 1, &call);
    int slices = 0;
    for (; status == RM_AGAIN; slices++)
        status = rm_call_wait(&call);
    CHECK(status == RM_OK && slices > 0 && strcmp(call.text, "[1,2,3]") == 0);
    rm_call_clear(&call);
    rm_pipeline_free(pipeline);
    pipeline = one_node(NULL, "Add", "{}");
    CHECK(run_call(pipeline, RM_JSON, TEXT("[1,\"x\"]"), 0, 0, &call) == RM_AGAIN);
    CHECK(rm_call_wait(&call) == RM_AGAIN); /* one step: the node is initialized */
    call.slice_us = -1;
    CHECK(rm_call_wait(&call) == RM_E_NODE);
    CHECK(call.run && !call.given && strstr(rm_error_json(call.error, NULL), "\"item\":1"));
    rm_call_clear(&call);
    rm_pipeline_free(pipeline);
}

static void a_slice_of_nothing_does_nothing_yet(void) {
    rm_pipeline *pipeline = pass_through();
    rm_view part = matrix();
    AGAIN(call(pipeline, RM_MARSHAL, BYTES("[" N2 ESCAPE "i" N0 "0i" N1), &part, 1, 0));
    CHECK(run != NULL && is_empty());
    rm_pipeline_free(pipeline);
    rm_data *report = NULL, *result = NULL;
    OK(rm_run_report(run, &report, &error));
    CHECK(says(report, "\"items\":2,\"items_done\":0"));
    OK(rm_run_wait(run, -1, &result, &report, &error));
    CHECK(says(report, "\"items_done\":2"));
    rm_view view = view_of(result); /* JSON, whatever the input was */
    CHECK(strcmp(view.json, "[{\"$rm\":0},1]") == 0 && view.child_count == 1);
    rm_view child = view_of(view.children[0]);
    CHECK(child.data == numbers && child.flags == 0);
    FAILS(RM_E_CLOSED, rm_run_wait(run, -1, &report, NULL, &error));
    rm_data_free(result); /* refers to the memory, so it goes first */
    rm_run_free(run);

    /* What is wrong with the input is found all the same. */
    pipeline = pass_through();
    FAILS(RM_E_JSON, call(pipeline, RM_JSON, TEXT("[1"), NULL, 0, 0));
    CHECK(run == NULL && is_empty());
    FAILS(RM_E_ARGUMENT, call(pipeline, RM_JSON, TEXT("1"), NULL, 0, 0));
    CHECK(run == NULL);
    rm_pipeline_free(pipeline);
}

static void a_slice_ends_while_a_node_waits(void) {
    rm_pipeline *pipeline = one_node(NULL, "Delay", "{\"seconds\": 600}");
    rm_view part = matrix();
    double begin = seconds();
    AGAIN(call(pipeline, RM_JSON, TEXT("[{\"$rm\":0}]"), &part, 1, 30000));
    CHECK(run != NULL && is_empty());
    double slice = seconds() - begin;
    CHECK(slice > 0.025 && slice < 10);
    rm_data *result = (rm_data *)&result;
    AGAIN(rm_run_wait(run, 10, &result, NULL, &error));
    CHECK(result == NULL);
    rm_run_free(run); /* in the middle of it */
    rm_pipeline_free(pipeline);

    pipeline = one_node(NULL, "Delay", "{\"seconds\": 0.02}");
    int slices = 0;
    rm_status status = call(pipeline, RM_JSON, TEXT("[1,{\"$rm\":0},3]"), &part, 1, 1000);
    for (; status == RM_AGAIN; slices++)
        status = rm_run_wait(run, 1, &result, NULL, &error);
    OK(status);
    CHECK(slices >= 3);
    CHECK(view_of(view_of(result).children[0]).data == numbers);
    CHECK(gives(result, "[1,{\"$rm\":0},3]"));
    rm_run_free(run);

    /* Without an end it takes what it takes. */
    json_gives(pipeline, "[1,2]", NULL, 0, "[1,2]");
    rm_run_free(run);
    OK(call(pipeline, RM_JSON, TEXT("[1]"), NULL, 0, INT64_MAX));
    rm_run_free(run);
    OK(call(pipeline, RM_JSON, TEXT("[1]"), NULL, 0, INT64_MIN));
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void a_short_slice_does_a_step_at_a_time(void) {
    rm_pipeline *pipeline = one_node(NULL, "TestSpin", "{\"when\": \"never\"}");
    rm_data *result = NULL;
    AGAIN(call(pipeline, RM_JSON, TEXT("[1,2,3,4]"), NULL, 0, 1));
    OK(rm_run_wait(run, -1, &result, NULL, &error));
    CHECK(gives(result, "[1,2,3,4]"));
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void time_runs_out(void) {
    rm_pipeline *pipeline = one_node(NULL, "Delay", "{\"seconds\": 600}");
    run = (rm_run *)&run;
    FAILS_WITH(RM_E_TIMEOUT, "\"item\":0",
               call_for(pipeline, RM_JSON, TEXT("[1]"), NULL, 0, 500, -1));
    CHECK(run == NULL && is_empty());

    rm_data *result = (rm_data *)&result;
    rm_view part = matrix();
    AGAIN(call_for(pipeline, RM_JSON, TEXT("[{\"$rm\":0}]"), &part, 1, 30, 1000));
    FAILS(RM_E_TIMEOUT, rm_run_wait(run, -1, &result, NULL, &error));
    CHECK(result == NULL);
    FAILS(RM_E_CLOSED, rm_run_wait(run, -1, &result, NULL, &error));
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void a_node_fails(void) {
    rm_pipeline *pipeline = one_node(NULL, "Add", "{}");
    FAILS_WITH(RM_E_NODE, "\"item\":1", call(pipeline, RM_JSON, TEXT("[1,\"x\",3]"), NULL, 0, -1));
    CHECK(run == NULL && is_empty());
    rm_view part = bytes("ab", 2);
    FAILS_WITH(RM_E_NODE, "got bytes",
               call(pipeline, RM_MARSHAL, BYTES("[" N1 ESCAPE "i" N0 "0"), &part, 1, -1));
    CHECK(run == NULL && is_empty());

    AGAIN(call(pipeline, RM_JSON, TEXT("[1,{\"$rm\":0}]"), &part, 1, 0));
    rm_data *result = (rm_data *)&result;
    FAILS_WITH(RM_E_NODE, "\"node\":\"n\"", rm_run_wait(run, -1, &result, NULL, &error));
    CHECK(result == NULL);
    rm_run_free(run);
    rm_pipeline_free(pipeline);

    pipeline = one_node(NULL, "TestPanic", "{\"when\": \"process\"}");
    REFUSED(RM_E_PANIC, pipeline, RM_JSON, TEXT("[1]"), NULL, 0);
    rm_pipeline_free(pipeline);
    pipeline = one_node(NULL, "TestPanic", "{\"when\": \"cleanup\"}");
    REFUSED(RM_E_PANIC, pipeline, RM_JSON, TEXT("[1]"), NULL, 0);
    rm_pipeline_free(pipeline);
}

static void a_run_is_freed_at_any_time(void) {
    rm_pipeline *pipeline = one_node(NULL, "Delay", "{\"seconds\": 600}");
    rm_view parts[] = {matrix(), audio(0)};
    const char *text = "[{\"$rm\":0},{\"$rm\":1}]";
    AGAIN(call(pipeline, RM_JSON, TEXT(text), parts, 2, 0)); /* before it has begun */
    rm_run_free(run);
    AGAIN(call(pipeline, RM_JSON, TEXT(text), parts, 2, 1000)); /* in mid-run */
    rm_run_free(run);

    AGAIN(call(pipeline, RM_JSON, TEXT(text), parts, 2, 0));
    pthread_t waiting = begin(wait_until_cancelled, run);
    until_busy(run);
    rm_run_free(run); /* while another thread waits for it */
    join(waiting);

    AGAIN(call(pipeline, RM_JSON, TEXT(text), parts, 2, 0));
    rm_run_cancel(run);
    rm_data *result = NULL;
    FAILS(RM_E_CANCELLED, rm_run_wait(run, -1, &result, NULL, &error));
    rm_run_free(run);
    rm_pipeline_free(pipeline);
}

static void a_run_is_booked_until_it_is_over(void) {
    rm_runtime *runtime = NULL;
    OK(rm_runtime_new(NULL, 0, &runtime, &error));
    rm_pipeline *pipeline = one_node(runtime, "PassThrough", "{}");
    json_gives(pipeline, "[1]", NULL, 0, "[1]");
    rm_run *over = run;
    AGAIN(call(pipeline, RM_JSON, TEXT("[1]"), NULL, 0, 0));
    rm_run *standing = run;
    AGAIN(rm_runtime_close(runtime, 0, &error)); /* one is left */
    rm_data *result = NULL;
    FAILS(RM_E_CANCELLED, rm_run_wait(standing, -1, &result, NULL, &error));
    OK(rm_runtime_close(runtime, 0, &error));
    REFUSED(RM_E_CLOSED, pipeline, RM_JSON, TEXT("[1]"), NULL, 0);
    rm_run_free(over);
    rm_run_free(standing);
    rm_pipeline_free(pipeline);
    rm_runtime_free(runtime);
}

static void *call_many_times(void *pipeline) {
    float own[6] = {1, 2, 3, 4, 5, 6};
    rm_view part = matrix();
    part.data = own;
    for (int i = 0; i < 200; i++) {
        rm_call call = {.struct_size = sizeof call, .timeout_ms = -1, .parts = &part};
        CHECK(run_call(pipeline, RM_MARSHAL, BYTES("[" N2 ESCAPE "i" N0 "0i" N1), 1, -1, &call) ==
              RM_OK);
        CHECK(call.given_count == 1 && call.given_parts->flags == RM_WRITABLE);
        CHECK(((float *)call.given_parts->data)[5] == 12 && own[5] == 6);
        rm_call_clear(&call);
    }
    return NULL;
}

static void threads_call_the_same_pipeline(void) {
    rm_pipeline *pipeline = twice();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = begin(call_many_times, pipeline);
    for (int i = 0; i < 4; i++)
        join(threads[i]);
    rm_pipeline_free(pipeline);
}

typedef struct {
    long long taken, reused, held_bytes, held_blocks;
} memory;

static long long number_of(const char *json, const char *name) {
    const char *found = strstr(json, name);
    CHECK(found != NULL);
    return atoll(found + strlen(name));
}

static memory pool(void) {
    rm_data *data = NULL;
    OK(rm_runtime_query(NULL, TEXT("memory"), &data, &error));
    const char *text = view_of(data).json;
    memory found = {number_of(text, "\"taken\":"), number_of(text, "\"reused\":"),
                    number_of(text, "\"held_bytes\":"), number_of(text, "\"held_blocks\":")};
    rm_data_free(data);
    return found;
}

static void memory_is_used_again(void) {
    enum { LENGTH = 100000, TIMES = 50 };
    static float many[LENGTH];
    static const int64_t shape[1] = {LENGTH};
    rm_view part = matrix();
    part.data = many;
    part.shape = shape;
    part.ndim = 1;
    part.byte_len = sizeof many;
    for (int i = 0; i < LENGTH; i++)
        many[i] = (float)i;
    rm_pipeline *pipeline = twice();
    memory before = pool();
    void *first = NULL;
    for (int i = 0; i < TIMES; i++) {
        json_gives(pipeline, "[{\"$rm\":0}]", &part, 1, "[{\"$rm\":0}]");
        float *fresh = output.parts->data;
        CHECK(fresh[0] == 0 && fresh[LENGTH - 1] == 2 * (float)(LENGTH - 1)); /* nothing stale */
        if (!first) first = fresh;
        CHECK(fresh == first);
        memory now = pool(); /* while it is in use it is not held */
        CHECK(now.taken == before.taken + 1 + i && now.held_bytes <= before.held_bytes);
        memset(fresh, 'x', sizeof many); /* the host's to write to */
        rm_run_free(run);
    }
    memory after = pool();
    CHECK(after.reused - before.reused >= TIMES - 1);
    CHECK(after.held_blocks <= before.held_blocks + 1);
    CHECK(after.held_bytes >= (long long)sizeof many && after.held_bytes <= 256 << 20);
    CHECK(after.held_bytes - before.held_bytes <= (long long)sizeof many * 5 / 4);

    /* What a host holds is a block of its own. */
    json_gives(pipeline, "[{\"$rm\":0}]", &part, 1, "[{\"$rm\":0}]");
    rm_run *held = run;
    float *one = output.parts->data;
    json_gives(pipeline, "[{\"$rm\":0}]", &part, 1, "[{\"$rm\":0}]");
    CHECK(output.parts->data != one);
    rm_run_free(run);
    rm_run_free(held);

    /* Little memory is not the pool's. */
    before = pool();
    part = matrix();
    json_gives(pipeline, "[{\"$rm\":0}]", &part, 1, "[{\"$rm\":0}]");
    rm_run_free(run);
    CHECK(pool().taken == before.taken && pool().held_bytes == before.held_bytes);
    rm_pipeline_free(pipeline);
}

int main(void) {
    RUN(json_goes_in_and_out);
    RUN(what_it_gives_lives_as_long_as_the_run);
    RUN(parts_are_used_where_they_are);
    RUN(parts_that_cannot_be_used_are_copied);
    RUN(a_result_in_fresh_memory_may_be_written_to);
    RUN(what_two_refer_to_is_not_to_be_written_to);
    RUN(parts_stand_anywhere_in_a_value);
    RUN(marshal_goes_in_and_out);
    RUN(the_flag_tells_of_escapes);
    RUN(in_plain_marshal_no_dict_is_special);
    RUN(marshal_that_is_no_value_is_refused);
    RUN(marshal_that_ends_too_early_is_refused);
    RUN(json_that_cannot_be_read_is_refused);
    RUN(an_item_is_nested_up_to_the_limit);
    RUN(null_is_refused_and_outs_are_null);
    RUN(kinds_that_do_not_belong_are_refused);
    RUN(parts_that_are_wrong_are_refused);
    RUN(structs_state_their_size);
    RUN(other_objects_are_told_apart);
    RUN(a_detached_call_leaves_no_run);
    RUN(parts_that_come_back_as_they_were_need_no_text);
    RUN(a_call_goes_on_where_it_stopped);
    RUN(a_slice_of_nothing_does_nothing_yet);
    RUN(a_slice_ends_while_a_node_waits);
    RUN(a_short_slice_does_a_step_at_a_time);
    RUN(time_runs_out);
    RUN(a_node_fails);
    RUN(a_run_is_freed_at_any_time);
    RUN(a_run_is_booked_until_it_is_over);
    RUN(threads_call_the_same_pipeline);
    RUN(memory_is_used_again);
    return 0;
}
