/* rm_data_from_dlpack and rm_data_to_dlpack. */
#include "check.h"

/* A producer: hands out its own memory, and counts how often that is given back. */
struct produced {
    DLManagedTensorVersioned managed;
    int64_t shape[4], strides[4];
    int deleted;
};

static float numbers[6] = {0, 1, 2, 3, 4, 5};

static void delete(DLManagedTensorVersioned *tensor) {
    struct produced *produced = tensor->manager_ctx;
    CHECK(tensor == &produced->managed);
    produced->deleted++;
}

/* The numbers as a matrix of two rows. */
static struct produced *produce(struct produced *made) {
    memset(made, 0, sizeof *made);
    made->shape[0] = 2;
    made->shape[1] = 3;
    made->strides[0] = 3;
    made->strides[1] = 1;
    made->managed.version.major = 1;
    made->managed.version.minor = 1;
    made->managed.manager_ctx = made;
    made->managed.deleter = delete;
    made->managed.dl_tensor.data = numbers;
    made->managed.dl_tensor.device.device_type = 1;
    made->managed.dl_tensor.ndim = 2;
    made->managed.dl_tensor.dtype.code = 2;
    made->managed.dl_tensor.dtype.bits = 32;
    made->managed.dl_tensor.dtype.lanes = 1;
    made->managed.dl_tensor.shape = made->shape;
    made->managed.dl_tensor.strides = made->strides;
    return made;
}

static rm_data *taken(struct produced *made) {
    rm_data *data = NULL;
    OK(rm_data_from_dlpack(&made->managed, &data, &error));
    CHECK(data != NULL);
    return data;
}

#define REFUSED(code, text, made) refused(__LINE__, code, text, made)

/* What is refused is as it was, and its deleter has not run. */
static void refused(int line, rm_status code, const char *text, struct produced *made) {
    struct produced before = *made;
    rm_data *data = (rm_data *)made;
    rm_status status = rm_data_from_dlpack(&made->managed, &data, &error);
    expect(__FILE__, line, "rm_data_from_dlpack", code, text, status, &error);
    CHECK(data == NULL);
    CHECK(memcmp(&before, made, sizeof before) == 0);
    made->managed.deleter(&made->managed); /* as its producer must be able to */
    CHECK(made->deleted == 1);
    produce(made);
}

static DLManagedTensorVersioned *lent(const rm_data *data) {
    DLManagedTensorVersioned *tensor = NULL;
    OK(rm_data_to_dlpack(data, &tensor, &error));
    CHECK(tensor != NULL && tensor->version.major == 1);
    return tensor;
}

static rm_data *value(rm_view view, rm_release_fn release) {
    rm_data *data = NULL;
    view.struct_size = sizeof view;
    OK(rm_data_new(&view, release, NULL, &data, &error));
    return data;
}

static rm_view matrix(void) {
    static const int64_t shape[2] = {2, 3};
    rm_view view = {.kind = RM_TENSOR, .data = numbers, .byte_len = sizeof numbers};
    view.shape = shape;
    view.ndim = 2;
    view.dtype_code = 2;
    view.dtype_bits = 32;
    view.dtype_lanes = 1;
    return view;
}

static void null_is_refused_and_outs_are_null(void) {
    struct produced made;
    rm_data *data = (rm_data *)&made;
    FAILS(RM_E_ARGUMENT, rm_data_from_dlpack(NULL, &data, &error));
    CHECK(data == NULL);
    FAILS(RM_E_ARGUMENT, rm_data_from_dlpack(&produce(&made)->managed, NULL, &error));
    CHECK(rm_data_from_dlpack(NULL, NULL, NULL) == RM_E_ARGUMENT);
    CHECK(made.deleted == 0);

    DLManagedTensorVersioned *tensor = &made.managed;
    FAILS(RM_E_ARGUMENT, rm_data_to_dlpack(NULL, &tensor, &error));
    CHECK(tensor == NULL);
    data = taken(&made);
    FAILS(RM_E_ARGUMENT, rm_data_to_dlpack(data, NULL, &error));
    rm_data_free(data);
    CHECK(made.deleted == 1);
}

static void a_tensor_is_taken_over_uncopied_and_deleted_once(void) {
    struct produced made;
    rm_data *data = taken(produce(&made));
    rm_view view = view_of(data);
    CHECK(view.kind == RM_TENSOR && view.data == numbers && view.byte_len == sizeof numbers);
    CHECK(view.ndim == 2 && view.shape[0] == 2 && view.shape[1] == 3);
    CHECK(view.dtype_code == 2 && view.dtype_bits == 32 && view.dtype_lanes == 1);
    rm_data *second = rm_data_retain(data);
    rm_data_free(data);
    CHECK(made.deleted == 0 && view_of(second).data == numbers);
    rm_data_free(second);
    CHECK(made.deleted == 1);

    /* Without strides it is contiguous; without a deleter there is nothing to do. */
    produce(&made)->managed.dl_tensor.strides = NULL;
    made.managed.deleter = NULL;
    rm_data_free(taken(&made));
    CHECK(made.deleted == 0);

    /* The offset counts in bytes. */
    produce(&made)->managed.dl_tensor.byte_offset = 3 * sizeof(float);
    made.shape[0] = 1;
    data = taken(&made);
    CHECK(view_of(data).data == numbers + 3 && view_of(data).byte_len == 12);
    rm_data_free(data);
    CHECK(made.deleted == 1);
}

static void what_is_refused_is_left_alone(void) {
    struct produced made;
    DLTensor *tensor = &produce(&made)->managed.dl_tensor;
    made.managed.version.major = 2;
    REFUSED(RM_E_UNSUPPORTED, "DLPack 2.1", &made);
    made.managed.version.major = 0;
    REFUSED(RM_E_UNSUPPORTED, "DLPack 0.1", &made);
    tensor->device.device_type = 2;
    REFUSED(RM_E_UNSUPPORTED, "device type 2", &made);
    tensor->dtype.lanes = 4;
    REFUSED(RM_E_UNSUPPORTED, "4 lanes", &made);
    tensor->dtype.bits = 4; /* packed floats, ints of half a byte */
    REFUSED(RM_E_UNSUPPORTED, "4 bits", &made);
    tensor->dtype.code = 0;
    tensor->dtype.bits = 4;
    REFUSED(RM_E_UNSUPPORTED, "4 bits", &made);
    tensor->dtype.code = 10; /* float8_e4m3fn */
    tensor->dtype.bits = 8;
    REFUSED(RM_E_UNSUPPORTED, "code 10", &made);
    made.shape[0] = -1;
    REFUSED(RM_E_ARGUMENT, "shape", &made);
    made.shape[0] = INT64_MAX;
    REFUSED(RM_E_ARGUMENT, "shape", &made);
    tensor->ndim = -1;
    REFUSED(RM_E_ARGUMENT, "dimensions", &made);
    tensor->ndim = 65;
    REFUSED(RM_E_ARGUMENT, "dimensions", &made);
    tensor->shape = NULL;
    REFUSED(RM_E_ARGUMENT, "shape is NULL", &made);
    tensor->data = NULL;
    REFUSED(RM_E_ARGUMENT, "data is NULL", &made);
}

/* These elements, copied out of their order, so that the producer gets its own back at once. */
static void gathered(struct produced *made, const float *wanted) {
    rm_data *data = taken(made);
    CHECK(made->deleted == 1);
    CHECK(view_of(data).data != numbers);
    CHECK(memcmp(view_of(data).data, wanted, view_of(data).byte_len) == 0);
    rm_data_free(data);
    CHECK(made->deleted == 1);
}

static void strides_in_any_order_are_gathered(void) {
    struct produced made;
    produce(&made);
    made.shape[0] = 3;
    made.shape[1] = 2;
    made.strides[0] = 1;
    made.strides[1] = 3;
    gathered(&made, (float[]){0, 3, 1, 4, 2, 5});
    produce(&made)->managed.dl_tensor.byte_offset = 5 * sizeof(float);
    made.strides[0] = -3;
    made.strides[1] = -1;
    gathered(&made, (float[]){5, 4, 3, 2, 1, 0});
    produce(&made)->strides[0] = 0; /* the same row, twice */
    gathered(&made, (float[]){0, 1, 2, 0, 1, 2});

    char place[sizeof numbers + 1];
    char *odd = place + 1 - (uintptr_t)place % 2;
    memcpy(odd, numbers, sizeof numbers);
    produce(&made)->managed.dl_tensor.data = odd;
    gathered(&made, numbers);

    /* The strides of a dimension of length 1 mean nothing. */
    produce(&made)->shape[0] = 1;
    made.strides[0] = -77;
    rm_data *data = taken(&made);
    CHECK(made.deleted == 0 && view_of(data).data == numbers);
    rm_data_free(data);
    CHECK(made.deleted == 1);
}

static void scalars_and_nothing_go_both_ways(void) {
    struct produced made;
    produce(&made)->managed.dl_tensor.ndim = 0;
    made.managed.dl_tensor.shape = made.managed.dl_tensor.strides = NULL;
    rm_data *data = taken(&made);
    CHECK(view_of(data).ndim == 0 && view_of(data).byte_len == 4);
    DLManagedTensorVersioned *tensor = lent(data);
    CHECK(tensor->dl_tensor.ndim == 0 && tensor->dl_tensor.data == numbers);
    tensor->deleter(tensor);
    rm_data_free(data);
    CHECK(made.deleted == 1);

    produce(&made)->shape[0] = 0;
    made.managed.dl_tensor.data = NULL;
    data = taken(&made);
    CHECK(made.deleted == 1); /* nothing of it is in use */
    tensor = lent(data);
    CHECK(tensor->dl_tensor.data == NULL);
    CHECK(tensor->dl_tensor.shape[0] == 0 && tensor->dl_tensor.shape[1] == 3);
    tensor->deleter(tensor);
    rm_data_free(data);
    CHECK(made.deleted == 1);
}

static void what_is_lent_keeps_the_memory_alive(void) {
    struct produced made;
    rm_data *data = taken(produce(&made));
    DLManagedTensorVersioned *one = lent(data), *two = lent(data);
    rm_data_free(data);
    CHECK(made.deleted == 0);
    CHECK(one != two && one->dl_tensor.data == numbers && two->dl_tensor.data == numbers);
    CHECK(one->dl_tensor.ndim == 2 && one->dl_tensor.shape[1] == 3);
    CHECK(one->dl_tensor.strides[0] == 3 && one->dl_tensor.strides[1] == 1);
    CHECK(one->dl_tensor.dtype.code == 2 && one->dl_tensor.dtype.bits == 32);
    CHECK(one->dl_tensor.dtype.lanes == 1 && one->dl_tensor.byte_offset == 0);
    CHECK(one->dl_tensor.device.device_type == 1 && one->dl_tensor.device.device_id == 0);
    one->deleter(one);
    CHECK(made.deleted == 0);

    /* A tensor of ours is as good as another's; it counts as an rm_data until it is deleted. */
    char before[300], after[300];
    count_handles(before, sizeof before);
    OK(rm_data_from_dlpack(two, &data, &error));
    CHECK(view_of(data).data == numbers);
    rm_data_free(data);
    CHECK(made.deleted == 1);
    count_handles(after, sizeof after);
    CHECK(strcmp(before, after) != 0);
}

static int releases;

static void count_release(void *user_data) {
    (void)user_data;
    releases++;
}

static void samples_and_pixels_are_lent_as_well(void) {
    rm_view view = matrix();
    releases = 0;
    view.kind = RM_AUDIO;
    view.json = "{\"sample_rate\": 8000}";
    view.json_len = strlen(view.json);
    rm_data *data = value(view, count_release);
    DLManagedTensorVersioned *tensor = lent(data);
    rm_data_free(data);
    CHECK(tensor->dl_tensor.data == numbers && tensor->dl_tensor.shape[0] == 2);
    tensor->deleter(tensor);
    CHECK(releases == 1);

    static uint8_t pixels[24];
    const int64_t shape[3] = {2, 4, 3};
    view.kind = RM_VIDEO;
    view.json = "{\"format\": \"rgb24\"}";
    view.json_len = strlen(view.json);
    view.data = pixels;
    view.byte_len = sizeof pixels;
    view.shape = shape;
    view.ndim = 3;
    view.dtype_code = 1;
    view.dtype_bits = 8;
    data = value(view, count_release);
    tensor = lent(data);
    rm_data_free(data);
    CHECK(tensor->dl_tensor.data == pixels && tensor->dl_tensor.ndim == 3);
    CHECK(tensor->dl_tensor.dtype.code == 1 && tensor->dl_tensor.strides[0] == 12);
    tensor->deleter(tensor);
    CHECK(releases == 2);
}

static void other_kinds_are_refused(void) {
    rm_data *others[] = {json("[1]"), json("null"),
                         value((rm_view){.kind = RM_BYTES, .data = "a", .byte_len = 1}, NULL),
                         value((rm_view){.kind = RM_TEXT, .data = "a", .byte_len = 1}, NULL)};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        DLManagedTensorVersioned *tensor = (DLManagedTensorVersioned *)others;
        FAILS(RM_E_ARGUMENT, rm_data_to_dlpack(others[i], &tensor, &error));
        CHECK(tensor == NULL);
        rm_data_free(others[i]);
    }
}

/* Whether what is lent of this value may be written to. */
static bool writable(const rm_data *data) {
    DLManagedTensorVersioned *tensor = lent(data);
    bool writable = tensor->flags == 0;
    CHECK(writable || tensor->flags == 1);
    tensor->deleter(tensor);
    return writable;
}

static void only_the_last_reader_may_write(void) {
    rm_data *data = value(matrix(), NULL); /* a copy: the library's own memory */
    CHECK(writable(data));
    rm_data *second = rm_data_retain(data);
    CHECK(!writable(data));
    rm_data_free(second);
    DLManagedTensorVersioned *first = lent(data);
    CHECK(first->flags == 0 && !writable(data)); /* the first reads it as well */
    rm_data_free(data);
    ((float *)first->dl_tensor.data)[0] = 7;
    CHECK(numbers[0] == 0);
    first->deleter(first);

    data = value(matrix(), count_release); /* the host's memory */
    CHECK(!writable(data));
    rm_data_free(data);

    /* A tensor that was taken over: only a copy that was made for us, and may be written to. */
    for (uint64_t flags = 0; flags < 4; flags++) {
        struct produced made;
        produce(&made)->managed.flags = flags;
        data = taken(&made);
        CHECK(writable(data) == (flags == 2));
        rm_data_free(data);
        CHECK(made.deleted == 1);
    }
}

/* Runs a node that adds 1 to every number, in place where it may. */
static void add_one(rm_data *tensor, rm_data **result) {
    rm_pipeline *pipeline = one_node(NULL, "Add", "{\"addend\": 1}");
    rm_view batch = {.struct_size = sizeof batch, .kind = RM_JSON, .json = "[{\"$rm\": 0}]"};
    batch.json_len = strlen(batch.json);
    batch.children = &tensor;
    batch.child_count = 1;
    rm_data *input = NULL;
    OK(rm_data_new(&batch, NULL, NULL, &input, &error));
    rm_data_free(tensor);
    OK(rm_pipeline_run(pipeline, input, -1, result, NULL, &error));
    rm_data_free(input);
    rm_pipeline_free(pipeline);
}

static void memory_that_is_shared_is_never_written_to(void) {
    for (uint64_t flags = 0; flags < 4; flags++) {
        struct produced made;
        produce(&made)->managed.flags = flags;
        rm_data *result = NULL;
        add_one(taken(&made), &result);
        for (int i = 0; i < 6; i++)
            CHECK(numbers[i] == (float)i);
        const float *sums = view_of(view_of(result).children[0]).data;
        for (int i = 0; i < 6; i++)
            CHECK(sums[i] == (float)(i + 1));
        rm_data_free(result);
        CHECK(made.deleted == 1);
    }
}

static void *free_in_thread(void *data) {
    rm_data_free(data);
    return NULL;
}

static void *delete_in_thread(void *argument) {
    DLManagedTensorVersioned *tensor = argument;
    tensor->deleter(tensor);
    return NULL;
}

static void any_thread_may_give_back(void) {
    for (int i = 0; i < 100; i++) {
        struct produced made;
        rm_data *data = taken(produce(&made));
        DLManagedTensorVersioned *tensor = lent(data);
        pthread_t one = begin(free_in_thread, data), two = begin(delete_in_thread, tensor);
        join(one);
        join(two);
        CHECK(made.deleted == 1);
    }
}

int main(void) {
    RUN(null_is_refused_and_outs_are_null);
    RUN(a_tensor_is_taken_over_uncopied_and_deleted_once);
    RUN(what_is_refused_is_left_alone);
    RUN(strides_in_any_order_are_gathered);
    RUN(scalars_and_nothing_go_both_ways);
    RUN(what_is_lent_keeps_the_memory_alive);
    RUN(samples_and_pixels_are_lent_as_well);
    RUN(other_kinds_are_refused);
    RUN(only_the_last_reader_may_write);
    RUN(memory_that_is_shared_is_never_written_to);
    RUN(any_thread_may_give_back);
    return 0;
}
