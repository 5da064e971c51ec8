#define RM_ABI_MAJOR 1

#define RM_ABI_MINOR 0

#define RM_OK 0

#define RM_AGAIN 1

#define RM_END 2

#define RM_E_ARGUMENT -1

#define RM_E_UTF8 -2

#define RM_E_JSON -3

#define RM_E_MANIFEST -4

#define RM_E_NODE -5

#define RM_E_TIMEOUT -6

#define RM_E_CANCELLED -7

#define RM_E_CLOSED -8

#define RM_E_BUSY -9

#define RM_E_UNSUPPORTED -10

#define RM_E_PLUGIN -11

#define RM_E_IO -12

#define RM_E_LIMIT -13

#define RM_E_FORKED -14

#define RM_E_PANIC -15

#define RM_E_INTERNAL -16

#define RM_E_DENIED -17

#define RM_JSON 0

#define RM_TEXT 1

#define RM_BYTES 2

#define RM_TENSOR 3

#define RM_AUDIO 4

#define RM_VIDEO 5

#define RM_WRITABLE 1

#define RM_MARSHAL 16

#define RM_MARSHAL_PLAIN 17

#define RM_DETACH 1

#define RM_INLINE 2

#define RM_ITEM 16

#define RM_ROWS 8

#define RM_ESCAPED 2

#define RM_HELD 32

#define RM_UNCHANGED 4

#define RM_WANT_ROOM 1

#define RM_WANT_OUTPUT 2

#define RM_WANT_TASK 4

#define RM_WANT_END 8

#define RM_WANT_BEGUN 16

#define RM_WANT_RESULT 32

#define RM_TASK_INITIALIZE 0

#define RM_TASK_PROCESS 1

#define RM_TASK_FLUSH 2

#define RM_TASK_INTERRUPT 3

#define RM_TASK_SET 4

#define RM_TASK_CLEANUP 5

#define RM_NODE_HEAVY 1

#define RM_NODE_WAITS 2

#define RM_NODE_STATELESS 4

#define RM_EVENT_LOG 1

#define RM_LOG_ERROR 1

#define RM_LOG_WARN 2

#define RM_LOG_INFO 3

#define RM_LOG_DEBUG 4

#define RM_LOG_TRACE 5

typedef struct rm_data rm_data;

typedef struct rm_error rm_error;

typedef struct rm_pipeline rm_pipeline;

typedef struct rm_queue rm_queue;

typedef struct rm_run rm_run;

typedef struct rm_runtime rm_runtime;

typedef struct rm_task rm_task;

typedef int32_t rm_status;

typedef struct rm_view {
  uint32_t struct_size;
  uint32_t kind;
  int64_t pts_us;
  const char *json;
  size_t json_len;
  void *data;
  uint64_t byte_len;
  const int64_t *shape;
  const int64_t *strides;
  int32_t ndim;
  int32_t device_type;
  int32_t device_id;
  uint8_t dtype_code;
  uint8_t dtype_bits;
  uint16_t dtype_lanes;
  struct rm_data *const *children;
  uint32_t child_count;
  uint32_t flags;
  uint32_t tag;
  uint32_t reserved;
} rm_view;

typedef void (*rm_release_fn)(void *user_data);

typedef struct DLPackVersion {
  uint32_t major;
  uint32_t minor;
} DLPackVersion;

typedef struct DLDevice {
  int32_t device_type;
  int32_t device_id;
} DLDevice;

typedef struct DLDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
} DLDataType;

typedef struct DLTensor {
  void *data;
  struct DLDevice device;
  int32_t ndim;
  struct DLDataType dtype;
  int64_t *shape;
  int64_t *strides;
  uint64_t byte_offset;
} DLTensor;

typedef struct DLManagedTensorVersioned {
  struct DLPackVersion version;
  void *manager_ctx;
  void (*deleter)(struct DLManagedTensorVersioned *tensor);
  uint64_t flags;
  struct DLTensor dl_tensor;
} DLManagedTensorVersioned;

typedef struct rm_call {
  uint32_t struct_size;
  uint32_t flags;
  const struct rm_pipeline *pipeline;
  uint32_t kind;
  uint32_t part_count;
  int64_t slice_us;
  int64_t timeout_ms;
  const struct rm_view *parts;
  char *buffer;
  size_t buffer_len;
  uint32_t given;
  uint32_t given_count;
  const char *text;
  size_t len;
  const struct rm_view *given_parts;
  struct rm_run *run;
  struct rm_error *error;
  struct rm_run *session;
  uint32_t want;
  uint32_t most;
  uint32_t most_tasks;
  uint32_t accepted;
  struct rm_data *held;
  uint32_t *released;
  uint32_t released_len;
  uint32_t released_count;
  uint64_t number;
} rm_call;

typedef struct rm_output {
  uint32_t struct_size;
  uint32_t node;
  int64_t item;
  struct rm_data *data;
} rm_output;

typedef struct rm_node_vtable {
  uint32_t struct_size;
  uint32_t flags;
  const char *params_schema;
  size_t params_schema_len;
  void (*init)(void *user_data, const struct rm_data *params, void **state, struct rm_task *task);
  void (*process)(void *state, const struct rm_data *input, struct rm_task *task);
  void (*flush)(void *state, struct rm_task *task);
  void (*interrupt)(void *state);
  void (*cleanup)(void *state);
  void (*destroy)(void *user_data);
} rm_node_vtable;

typedef struct rm_event {
  uint32_t struct_size;
  uint32_t type;
  struct rm_data *data;
} rm_event;

typedef void (*rm_log_fn)(void *user_data,
                          int32_t level,
                          const char *target,
                          size_t target_len,
                          const char *message,
                          size_t message_len);

uint32_t rm_abi_version(void);

const char *rm_build_info(void);

struct rm_error *rm_error_new(rm_status code,
                              const char *message,
                              size_t message_len,
                              const char *hint,
                              size_t hint_len);

rm_status rm_error_code(const struct rm_error *error);

const char *rm_error_json(const struct rm_error *error, size_t *len);

void rm_error_free(struct rm_error *error);

rm_status rm_data_new(const struct rm_view *view,
                      rm_release_fn release,
                      void *user_data,
                      struct rm_data **out,
                      struct rm_error **error);

rm_status rm_data_view(const struct rm_data *data, struct rm_view *out, struct rm_error **error);

struct rm_data *rm_data_retain(const struct rm_data *data);

void rm_data_free(struct rm_data *data);

rm_status rm_data_from_dlpack(struct DLManagedTensorVersioned *tensor,
                              struct rm_data **out,
                              struct rm_error **error);

rm_status rm_data_to_dlpack(const struct rm_data *data,
                            struct DLManagedTensorVersioned **out,
                            struct rm_error **error);

rm_status rm_runtime_new(const char *options_json,
                         size_t len,
                         struct rm_runtime **out,
                         struct rm_error **error);

rm_status rm_runtime_query(struct rm_runtime *runtime,
                           const char *what,
                           size_t len,
                           struct rm_data **out,
                           struct rm_error **error);

rm_status rm_runtime_close(struct rm_runtime *runtime, int64_t timeout_ms, struct rm_error **error);

void rm_runtime_free(struct rm_runtime *runtime);

rm_status rm_pipeline_new(struct rm_runtime *runtime,
                          const char *manifest_json,
                          size_t len,
                          struct rm_pipeline **out,
                          struct rm_error **error);

rm_status rm_pipeline_new_hosted(struct rm_runtime *runtime,
                                 const char *manifest_json,
                                 size_t len,
                                 const char *types_json,
                                 size_t types_len,
                                 struct rm_pipeline **out,
                                 struct rm_error **error);

rm_status rm_pipeline_info(const struct rm_pipeline *pipeline,
                           struct rm_data **out,
                           struct rm_error **error);

rm_status rm_pipeline_run(const struct rm_pipeline *pipeline,
                          const struct rm_data *input,
                          int64_t timeout_ms,
                          struct rm_data **result,
                          struct rm_data **report,
                          struct rm_error **error);

void rm_pipeline_free(struct rm_pipeline *pipeline);

rm_status rm_run_manifest(const char *manifest_json,
                          size_t manifest_len,
                          const char *input_json,
                          size_t input_len,
                          struct rm_data **result,
                          struct rm_error **error);

rm_status rm_run_start(const struct rm_pipeline *pipeline,
                       const struct rm_data *input,
                       int64_t timeout_ms,
                       struct rm_run **out,
                       struct rm_error **error);

rm_status rm_run_wait(struct rm_run *run,
                      int64_t timeout_ms,
                      struct rm_data **result,
                      struct rm_data **report,
                      struct rm_error **error);

rm_status rm_run_report(struct rm_run *run, struct rm_data **out, struct rm_error **error);

void rm_run_cancel(struct rm_run *run);

void rm_run_free(struct rm_run *run);

rm_status rm_call_run(struct rm_call *call, const char *text, size_t len);

rm_status rm_call_wait(struct rm_call *call);

void rm_call_clear(struct rm_call *call);

rm_status rm_pipeline_report(const struct rm_pipeline *pipeline,
                             const char *counts,
                             size_t len,
                             struct rm_data **out,
                             struct rm_error **error);

rm_status rm_run_open(const struct rm_pipeline *pipeline,
                      uint64_t window,
                      int64_t timeout_ms,
                      struct rm_run **out,
                      struct rm_error **error);

rm_status rm_run_push(struct rm_run *run,
                      const struct rm_data *item,
                      const char *node,
                      size_t node_len,
                      int64_t timeout_ms,
                      uint64_t *number,
                      struct rm_error **error);

rm_status rm_run_end(struct rm_run *run, struct rm_error **error);

rm_status rm_run_pull(struct rm_run *run,
                      int64_t timeout_ms,
                      struct rm_output *out,
                      uint32_t capacity,
                      uint32_t *count,
                      struct rm_error **error);

rm_status rm_run_interrupt(struct rm_run *run, struct rm_error **error);

rm_status rm_run_set(struct rm_run *run,
                     const char *node,
                     size_t node_len,
                     const char *params_json,
                     size_t params_len,
                     struct rm_error **error);

rm_status rm_run_diagnose(struct rm_run *run, struct rm_data **out, struct rm_error **error);

int64_t rm_run_fd(struct rm_run *run);

rm_status rm_call_exchange(struct rm_call *call, const char *text, size_t len);

rm_status rm_runtime_add_node(struct rm_runtime *runtime,
                              const char *node_type,
                              size_t len,
                              const struct rm_node_vtable *vtable,
                              void *user_data,
                              struct rm_error **error);

rm_status rm_task_emit(struct rm_task *task, const struct rm_data *data, struct rm_error **error);

rm_status rm_task_cancelled(const struct rm_task *task);

void rm_task_finish(struct rm_task *task, rm_status status, const struct rm_error *error);

rm_status rm_queue_new(struct rm_queue **out, struct rm_error **error);

const uint32_t *rm_queue_pending(const struct rm_queue *queue);

rm_status rm_queue_next(struct rm_queue *queue,
                        int64_t timeout_ms,
                        struct rm_event *out,
                        uint32_t capacity,
                        uint32_t *count,
                        struct rm_error **error);

void rm_queue_log(void *user_data,
                  int32_t level,
                  const char *target,
                  size_t target_len,
                  const char *message,
                  size_t message_len);

void rm_queue_free(struct rm_queue *queue);

rm_status rm_set_log(rm_log_fn log, void *user_data, int32_t max_level, struct rm_error **error);

void rm_clear(void *slot);
