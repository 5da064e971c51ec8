/* remotemedia.h: pipelines of media and data nodes, from any language.
 *
 * Generated from rust-core/capi; do not edit. SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *     rm_data *result = NULL;
 *     rm_error *error = NULL;
 *     if (rm_run_manifest(manifest, strlen(manifest), "[1, 2, 3]", 9, &result, &error) < 0)
 *         fprintf(stderr, "%s\n", rm_error_json(error, NULL));
 *
 * THE RULES
 *
 *  1 Any function may be called from any thread. Functions that take timeout_ms may block: -1
 *    waits for ever, 0 polls.
 *  2 Every out-parameter is written on every path: NULL or 0 unless the call returns RM_OK.
 *    rm_error ** comes last and may be NULL; only a negative status fills it.
 *  3 What you receive through an out-parameter or an event is yours to free, once. Every _free
 *    takes NULL and does nothing then.
 *  4 What you pass in is borrowed; the library retains what it keeps. Only _free takes it away, and
 *    rm_task_finish a task. What a callback is given is borrowed by you, until its task is finished.
 *  5 A const pointer handed out lives as long as the object it came from. Objects keep alive what
 *    they need: free in any order.
 *  6 Text in is UTF-8 with a length in bytes and needs no NUL; NULL with length 0 is empty text.
 *    JSON text out also ends in a NUL that is not counted.
 *  7 `release` runs exactly once, on any thread, after the last reader is done; if rm_data_new
 *    fails it never runs.
 *  8 Callbacks may come from any thread, several at once. They return, and never throw or longjmp.
 *    For hosts that must not be called from foreign threads a queue takes the place of the log's,
 *    and rm_call_exchange that of a node's.
 *  9 A process may just exit: nothing is torn down then. The library is never unloaded.
 * 10 After a fork the child gets RM_E_FORKED from objects that were made before, may free them,
 *    and may make new ones. Only rm_run_report works on an old one.
 * 11 A panic, which is a bug, becomes RM_E_PANIC; the process lives on.
 * 12 Where memory that grows with the input is not there, a call gives RM_E_LIMIT. Small allocations
 *    (objects, lists and maps of values, error texts, what decoders need) abort the process if even
 *    they fail, as the operating system would soon do.
 * 13 Names are added, never changed, within a major version of the ABI; structs grow only at the
 *    end and state their size. Treat negative statuses that you do not know as failures.
 */

#ifndef REMOTEMEDIA_H
#define REMOTEMEDIA_H

#include <stddef.h>
#include <stdint.h>

/* Major version of the ABI: a library of another one must not be used. */
#define RM_ABI_MAJOR 1
/* Minor version of the ABI: a library whose minor is at least the header's will do. */
#define RM_ABI_MINOR 0
/* Success. */
#define RM_OK 0
/* Not yet, or nothing there: call again. */
#define RM_AGAIN 1
/* There is nothing more to come. */
#define RM_END 2
/* An argument is NULL, out of range or of the wrong kind. */
#define RM_E_ARGUMENT -1
/* Text is not UTF-8. */
#define RM_E_UTF8 -2
/* Text is not JSON. */
#define RM_E_JSON -3
/* The manifest is JSON but does not describe a pipeline; the error's causes are its problems. */
#define RM_E_MANIFEST -4
/* A node failed. */
#define RM_E_NODE -5
/* The time ran out. */
#define RM_E_TIMEOUT -6
/* The run was cancelled. */
#define RM_E_CANCELLED -7
/* The object was closed, or its run is over. */
#define RM_E_CLOSED -8
/* Another thread is using the object. */
#define RM_E_BUSY -9
/* Valid, but not something this library can do. */
#define RM_E_UNSUPPORTED -10
/* A plugin could not be loaded. */
#define RM_E_PLUGIN -11
/* A file could not be read or written. */
#define RM_E_IO -12
/* Larger, deeper or more than the limits allow. */
#define RM_E_LIMIT -13
/* The object was made before the process forked. */
#define RM_E_FORKED -14
/* A bug in a node or in the library was contained; the object it happened in is closed. */
#define RM_E_PANIC -15
/* A bug in the library. */
#define RM_E_INTERNAL -16
/* The policy in force does not permit it. */
#define RM_E_DENIED -17
/* Kind of a value: JSON, with binary parts beside it or without. */
#define RM_JSON 0
/* Kind of a value: text, in `data` as UTF-8. */
#define RM_TEXT 1
/* Kind of a value: raw bytes. */
#define RM_BYTES 2
/* Kind of a value: an array of numbers. */
#define RM_TENSOR 3
/* Kind of a value: sound. */
#define RM_AUDIO 4
/* Kind of a value: a frame of video, or another image. */
#define RM_VIDEO 5
/* Flag of a view: nobody else reads the memory, so it may be written to. */
#define RM_WRITABLE 1
/* A view's `pts_us` where there is no presentation time. */
#define RM_NO_PTS INT64_MIN

/*
 Kind of a text: Python's marshal format, version 2, of None, bool, int, float, str, list, tuple
 and dict with str keys. Only for rm_call_run. `{"$rm": [i]}` is a long list of floats, which the
 library has put into binary part i, an array of float64.
 */
#define RM_MARSHAL 16
/* The same without binary parts, and with no dict special. */
#define RM_MARSHAL_PLAIN 17

/*
 Flag of a call: once the run is complete only its outputs and counts are wanted. Only with the
 marshal kinds. The text is then a pair, of the outputs and of bytes for rm_pipeline_report, and
 where nothing needs the run's memory there is no run.
 */
#define RM_DETACH 1

/*
 Flag of a call: small binary parts of what rm_call_exchange gives stand in its text, as copies:
 bytes of up to 16 KiB as Python's bytes, and tensors as a tuple of `code << 8 | bits` of the
 element type, of their bytes, and of a tuple with their shape unless they have one dimension.
 */
#define RM_INLINE 2
/* Flag of a call: the text for rm_call_exchange is one item. */
#define RM_ITEM 16

/*
 Flag of a call: without a text for rm_call_exchange, the items are the rows of the binary parts:
 of tensors, along the first axis. Flag of what an exchange with RM_INLINE gave: there are several
 outputs and no tasks, all outputs are small tensors of one element type and shape, and the text is
 `[items, nodes, rows]`, where `rows` stands as one tensor whose rows are their values.
 */
#define RM_ROWS 8
/* Flag of what a call gave: there may be objects with the key "$rm" in the text, or tuples. */
#define RM_ESCAPED 2
/* Flag of what a call gave: it lies in the memory of the call's run, or of what is held. */
#define RM_HELD 32
/*
 Flag of what a call gave, with RM_DETACH: the outputs are tensors, the same ones as the parts of
 the input, in the same order, with the same memory; in the text None stands for them.
 */
#define RM_UNCHANGED 4
/* What rm_call_exchange waits for: room for another item. */
#define RM_WANT_ROOM 1
/* An output. */
#define RM_WANT_OUTPUT 2
/* A task of a node of rm_pipeline_new_hosted. */
#define RM_WANT_TASK 4
/* Nothing but the end of the run. */
#define RM_WANT_END 8
/* All nodes initialized. */
#define RM_WANT_BEGUN 16
/* The end of a run of rm_call_run or rm_run_start, and with it the result. */
#define RM_WANT_RESULT 32
/* Kind of a task: to acquire what the node needs; its parameters come with it. */
#define RM_TASK_INITIALIZE 0
/* To process a value, which comes with it. The answer is the values that it makes of it. */
#define RM_TASK_PROCESS 1
/* To give what it still holds, at the end of input. */
#define RM_TASK_FLUSH 2
/* To forget what it holds, if it is not to be kept: what was in flight was discarded. */
#define RM_TASK_INTERRUPT 3
/* To go on with the parameters that come with it. */
#define RM_TASK_SET 4
/* To release what it holds. The last one. */
#define RM_TASK_CLEANUP 5
/*
 Flag of a node type: one value may take it more than about 100 microseconds, so it works on the
 library's threads where there is something to run beside.
 */
#define RM_NODE_HEAVY 1
/* Flag of a node type: its tasks may be finished after the callback has returned. */
#define RM_NODE_WAITS 2

/*
 Flag of a node type: its nodes remember nothing from one value to the next and give nothing at
 the end of input. So a manifest may give them "parallelism", with which several states share the
 work.
 */
#define RM_NODE_STATELESS 4

/*
 Type of an event: a message for the log. `data` is JSON:
 `{"level": 1 to 5, "target": "...", "message": "...", "dropped": n}`, where n counts the events
 that were lost just before this one because nobody fetched them.
 */
#define RM_EVENT_LOG 1
/* Level of a message: something failed. */
#define RM_LOG_ERROR 1
/* Level of a message: something is not as it should be. */
#define RM_LOG_WARN 2
/* Level of a message: something worth knowing happened. */
#define RM_LOG_INFO 3
/* Level of a message: for who looks for a fault. */
#define RM_LOG_DEBUG 4
/* Level of a message: everything. */
#define RM_LOG_TRACE 5

/*
 One immutable value: JSON, text, bytes, a tensor, audio or a frame of video.

 A batch of items is one rm_data too: a JSON array. JSON has no bytes, arrays of numbers, NaN or
 infinities; those stand in the text as an object with the single key "$rm":
   {"$rm": 3}                 the value children[3] of the view
   {"$rm": "NaN"}             that float; also "Infinity" and "-Infinity"
   {"$rm": {"$rm": 1}}        the object inside as it stands: so is an object of yours written
                              that has this key

 Ownership: reference-counted; what you receive is a reference of your own; free it. Immutable:
 any thread may read it.

 Functions: rm_data_new, rm_data_view, rm_data_retain, rm_data_free, rm_data_from_dlpack,
 rm_data_to_dlpack.
 */
typedef struct rm_data rm_data;

/*
 What went wrong, where, and what to do about it.

 Ownership: comes through the last parameter of a failed call, or from rm_error_new, and is yours;
 free it.
 Immutable: any thread may read it.

 Functions: rm_error_new, rm_error_code, rm_error_json, rm_error_free.
 */
typedef struct rm_error rm_error;

/*
 A manifest that was found good: ready to be run any number of times.

 Ownership: yours from rm_pipeline_new; free it, also while runs of it are going on. Immutable:
 any thread may run it, several at once.

 Functions: rm_pipeline_new, rm_pipeline_new_hosted, rm_pipeline_info, rm_pipeline_run, rm_call_run,
 rm_pipeline_report, rm_run_start, rm_run_open, rm_pipeline_free.
 */
typedef struct rm_pipeline rm_pipeline;

/*
 Takes the place of a callback, for hosts that must not be called from foreign threads: events
 are fetched, many at a time, by a thread of the host's choice. It holds up to 1,000 events;
 beyond that the oldest are dropped and counted.

 Ownership: yours from rm_queue_new; free it at any time; who is waiting then gets RM_E_CLOSED.
 Threads: any, at the same time.

 Functions: rm_queue_new, rm_queue_next, rm_queue_pending, rm_queue_log, rm_queue_free.
 */
typedef struct rm_queue rm_queue;

/*
 A pipeline in motion, for hosts that want to look up now and then: for signals, for a progress
 bar, for a button that says stop. rm_pipeline_run is this in one call.

 A run of rm_run_start has its whole input; one of rm_run_open is fed piece by piece. The thread
 that waits for a run, pushes or pulls does its work; between that it stands still. Only where
 there are several nodes one of which is heavy, and where one waits, do those work on threads of
 the library's. Ownership: yours; free it at any time, which ends it. Threads: any, at the same
 time.

 Functions: rm_run_start, rm_call_run, rm_call_wait, rm_run_wait, rm_run_report, rm_run_cancel,
 rm_run_open, rm_run_push, rm_run_end, rm_run_pull, rm_call_exchange, rm_run_fd, rm_run_interrupt,
 rm_run_set, rm_run_diagnose, rm_run_free.
 */
typedef struct rm_run rm_run;

/*
 Node types, limits and remembered manifests: what pipelines are loaded with.

 Where a function takes a runtime, NULL means the process's default one, which always exists,
 has every limit at its default and cannot be closed.

 Ownership: yours from rm_runtime_new; free it. Pipelines keep what they need of it, so free in
 any order. Threads: any, at the same time.

 Functions: rm_runtime_new, rm_runtime_add_node, rm_runtime_query, rm_runtime_close,
 rm_runtime_free.
 */
typedef struct rm_runtime rm_runtime;

/*
 One call of a node of the host's: init, process or flush. It is the host's until it is finished,
 which is to happen exactly once, on any thread.

 Ownership: comes with the callback; rm_task_finish takes it away, and nothing else does. It
 keeps the node's state and type. Of a task that is never finished the run's and the node's
 timeout, rm_run_cancel and rm_run_free do their work all the same, but its node never comes to
 cleanup, nor the type to destroy. Threads: any, at the same time, until it is finished.

 Functions: rm_task_emit, rm_task_cancelled, rm_task_finish.
 */
typedef struct rm_task rm_task;

/*
 What every call that can fail returns: 0 for success, above 0 for flow control, below 0 for
 failure. Treat a negative number that you do not know as a failure.
 */
typedef int32_t rm_status;

/*
 The parts of a value, to make an rm_data of or to read one. Fields are only ever added at the
 end. Set `struct_size` to sizeof(rm_view) and everything you do not use to 0 or NULL,
 but `pts_us` of audio and frames without a time to RM_NO_PTS.
 */
typedef struct rm_view {
  /* sizeof(rm_view) of the side that made the struct. */
  uint32_t struct_size;
  /* RM_JSON, RM_TEXT, RM_BYTES, RM_TENSOR, RM_AUDIO or RM_VIDEO. */
  uint32_t kind;
  /*
   RM_AUDIO, RM_VIDEO: presentation time (for audio that of the first frame) in microseconds.
   0 is a time: write RM_NO_PTS where there is none.
   */
  int64_t pts_us;
  /*
   RM_JSON: the value. RM_AUDIO: `{"sample_rate": 16000}`. RM_VIDEO: `{"format": "rgb24"}`, or
   "bgr24" (3 channels), "rgba", "bgra" (4), "gray" (1). Others: empty.
   */
  const char *json;
  /* Length of `json` in bytes. */
  size_t json_len;
  /* The text, the bytes or the first element; NULL only if there is nothing. */
  void *data;
  /* Length of the text, the bytes or all elements together, in bytes. */
  uint64_t byte_len;
  /*
   Length of each dimension. RM_AUDIO: (frames) or (frames, channels). RM_VIDEO: (height, width,
   channels), or (height, width) for gray; rows from top to bottom, sides of 1 to 65,536.
   */
  const int64_t *shape;
  /*
   Distance of neighbours in each dimension, in elements; NULL: C-contiguous. Never NULL in a
   view that the library filled, unless ndim is 0.
   */
  const int64_t *strides;
  /* Number of dimensions, 0 to 64. */
  int32_t ndim;
  /* Where the memory is, in DLPack's codes; 1 (or 0) is the CPU, the only one there is so far. */
  int32_t device_type;
  /* Which device of that type. */
  int32_t device_id;
  /*
   DLPack's DLDataTypeCode: 0 int, 1 uint, 2 float, 4 bfloat, 5 complex, 6 bool. RM_AUDIO:
   float of 32 bits in -1..1, or int of 16. RM_VIDEO: uint of 8.
   */
  uint8_t dtype_code;
  /* Bits of an element. */
  uint8_t dtype_bits;
  /* 1. */
  uint16_t dtype_lanes;
  /* RM_JSON: the values that the text refers to. */
  struct rm_data *const *children;
  /* How many. */
  uint32_t child_count;
  /* RM_WRITABLE or 0; ignored in what you pass in. */
  uint32_t flags;
  /*
   RM_TENSOR in the parts of a call: a number below 2^31 by which you know it, or 0. Where it
   comes out as it went in, whole and unchanged, the text has minus that number in the place of
   a part's index (not in JSON). In rm_call_exchange such a part is lent, see there.
   */
  uint32_t tag;
  /* 0. */
  uint32_t reserved;
} rm_view;

/* What the library calls when it has read your memory for the last time (rule 7). */
typedef void (*rm_release_fn)(void *user_data);

/*
 DLPack's structs, as its own header has them. Where you include that as well, do so before
 this one.
 */
struct DLManagedTensorVersioned;
#ifndef DLPACK_DLPACK_H_
/* DLPack's version: of another major one, only the fields up to `flags` have a meaning. */
typedef struct DLPackVersion {
  /* 1. */
  uint32_t major;
  /* Any. */
  uint32_t minor;
} DLPackVersion;

/* Where memory is. */
typedef struct DLDevice {
  /* DLPack's DLDeviceType: 1 is the CPU. */
  int32_t device_type;
  /* Which device of that type. */
  int32_t device_id;
} DLDevice;

/* The type of an element. */
typedef struct DLDataType {
  /* DLPack's DLDataTypeCode: 0 int, 1 uint, 2 float, 4 bfloat, 5 complex, 6 bool. */
  uint8_t code;
  /* Bits of an element. */
  uint8_t bits;
  /* 1. */
  uint16_t lanes;
} DLDataType;

/* An array of numbers. */
typedef struct DLTensor {
  /* The memory; NULL only if there are no elements. */
  void *data;
  /* Where that is. */
  struct DLDevice device;
  /* Number of dimensions. */
  int32_t ndim;
  /* The type of the elements. */
  struct DLDataType dtype;
  /* Length of each dimension. */
  int64_t *shape;
  /* Distance of neighbours in each dimension, in elements; NULL: C-contiguous. */
  int64_t *strides;
  /* From `data` to the first element, in bytes. */
  uint64_t byte_offset;
} DLTensor;

/* A tensor with its owner: whoever has received it calls `deleter` once, when done with it. */
typedef struct DLManagedTensorVersioned {
  /* The version that the producer writes. */
  struct DLPackVersion version;
  /* The producer's own. */
  void *manager_ctx;
  /* Gives the tensor back; NULL: nothing is to be done for that. */
  void (*deleter)(struct DLManagedTensorVersioned *tensor);
  /* Bit 0 (1): must not be written to. Bit 1 (2): a copy, which the consumer alone has. */
  uint64_t flags;
  /* The tensor. */
  struct DLTensor dl_tensor;
} DLManagedTensorVersioned;
#endif  /* DLPACK_DLPACK_H_ */

/*
 What rm_call_run takes and gives besides the text: to be used again and again, by hosts to which
 every argument and every object costs. Fields are only ever added at the end. Set `struct_size`
 and what is to be as it says, and everything you do not use to 0 or NULL, but `slice_us` and
 `timeout_ms` to -1. The library does not change what it takes.

 Ownership: the struct is yours, and the pipeline in it stays yours. rm_call_clear frees what a
 call has left in it.

 Functions: rm_call_run, rm_call_wait, rm_call_exchange, rm_call_clear.
 */
typedef struct rm_call {
  /* In: sizeof(rm_call) of the side that made the struct. */
  uint32_t struct_size;
  /* In: RM_DETACH, RM_INLINE, RM_ITEM and RM_ROWS, or 0. */
  uint32_t flags;
  /* In: what to run. */
  const struct rm_pipeline *pipeline;
  /* In: RM_JSON, RM_MARSHAL or RM_MARSHAL_PLAIN, the format of the text. */
  uint32_t kind;
  /* In: how many `parts` there are. */
  uint32_t part_count;
  /* In: how many microseconds to work; -1 is without end. With 0 rm_call_run does nothing yet. */
  int64_t slice_us;
  /* In: the time for all of the run, in milliseconds; -1 is without end. */
  int64_t timeout_ms;
  /* In: views of the bytes, tensors, audio and frames that the text refers to by index. */
  const struct rm_view *parts;
  /* In: room for the text of the outputs, or NULL. */
  char *buffer;
  /* In: how many bytes of room there are. */
  size_t buffer_len;
  /* Out: RM_ESCAPED, RM_UNCHANGED, RM_HELD and RM_ROWS, or 0. */
  uint32_t given;
  /* Out: how many parts the outputs have. */
  uint32_t given_count;
  /*
   Out: the outputs, a list, in the format of the input; of RM_MARSHAL_PLAIN in RM_MARSHAL.
   In `buffer` if it fits there and there is no run.
   */
  const char *text;
  /* Out: length of `text` in bytes. */
  size_t len;
  /* Out: the values that the text refers to, each as large as its struct_size says. */
  const struct rm_view *given_parts;
  /*
   Out: the run, if it is not complete, or if the text or a part lies in its memory. Yours, as
   from rm_run_start.
   */
  struct rm_run *run;
  /* Out: what went wrong. Yours. */
  struct rm_error *error;
  /* In, for rm_call_exchange like all that follows: a run that was opened; it stays yours. */
  struct rm_run *session;
  /* In: what to wait for, such as RM_WANT_ROOM, or 0. */
  uint32_t want;
  /* In: how many outputs to take. */
  uint32_t most;
  /* In: how many tasks to take; by rm_call_run as well. */
  uint32_t most_tasks;
  /* Out: how many of the items went in. */
  uint32_t accepted;
  /* Out: what the text and the parts belong to, if they are not in `buffer`. Yours. */
  struct rm_data *held;
  /*
   In: room for the tags of parts that were lent and are not used any more, or NULL. The text of
   the same call may still have them.
   */
  uint32_t *released;
  /* In: how many tags there is room for. */
  uint32_t released_len;
  /* Out: how many there are. Those without room come the next time. */
  uint32_t released_count;
  /* Out: the number of the first of the items that went in, counted from 0. */
  uint64_t number;
} rm_call;

/* An output of a run that was opened. */
typedef struct rm_output {
  /* sizeof(rm_output) of the side that made the struct. */
  uint32_t struct_size;
  /* The place in the manifest of the sink that gave it. */
  uint32_t node;
  /* The number of the item that it comes from; -1 for what was flushed at the end of input. */
  int64_t item;
  /* The value; yours to free. */
  struct rm_data *data;
} rm_output;

/*
 How a host implements a type of nodes. Fields are only ever added at the end. Set `struct_size`
 to sizeof(rm_node_vtable), and what you do not use to 0 or NULL; only `process` is needed. The
 struct is copied.

 Each node of a run has a state of its own: a pointer that init sets. Its callbacks come in the
 order init, process for each value, flush, cleanup; never two at once, and none before the task
 of the one before it is finished, even if nobody waits for that any more. If init fails, nothing
 else is called. If it succeeds, there is one cleanup, whatever else happens: after the last task
 of this state is finished, on the thread that does this or that ends the run. Different states
 are called from several threads at once.

 Which thread calls (rule 8): without a flag the one that pushes, pulls or waits for the run, or
 one of the library's; with RM_NODE_HEAVY one of the library's, unless the node has nothing to run
 beside in a batch; with RM_NODE_WAITS always one of the library's, which has other things to do,
 so the callback is to return at once. destroy comes on the thread that is the last to let go of the
 type: one that gives back a run, a pipeline, a runtime or a task, or, a moment after a run was
 given back, one of the library's.

 A callback may call any function of the library, but must not wait for its own run, push to it
 with a time to wait, free it, or close its runtime; nor wait for another run that has nodes which
 are heavy or wait, since it may be on the thread that they need.
 */
typedef struct rm_node_vtable {
  /* sizeof(rm_node_vtable) of the side that made the struct. */
  uint32_t struct_size;
  /* RM_NODE_HEAVY, RM_NODE_WAITS and RM_NODE_STATELESS, or 0. */
  uint32_t flags;
  /*
   The JSON Schema of the parameters, for example `{"type": "object", "properties": {"least":
   {"type": "number", "default": 0}}}`; NULL: any. Manifests are checked with it, and init gets
   the defaults of what they leave out. Known are the words that the schemas of the library's
   own types use.
   */
  const char *params_schema;
  /* Its length in bytes. */
  size_t params_schema_len;
  /*
   Acquires what a node needs. `params` is a JSON object. `state`, at first `user_data`, may be
   set until the task is finished; it is what the callbacks below get. NULL: nothing to do.
   */
  void (*init)(void *user_data, const struct rm_data *params, void **state, struct rm_task *task);
  /* Takes a value and emits any number of values. */
  void (*process)(void *state, const struct rm_data *input, struct rm_task *task);
  /* At the end of input: emits what the node still holds. */
  void (*flush)(void *state, struct rm_task *task);
  /*
   What was in flight was discarded (rm_run_interrupt): forgets what it holds of it. Comes before
   the next value.
   */
  void (*interrupt)(void *state);
  /* Releases what the node holds. */
  void (*cleanup)(void *state);
  /*
   The type is not needed any more, by anybody: the last callback. Exactly once; never if
   rm_runtime_add_node failed, nor for a type of the default runtime.
   */
  void (*destroy)(void *user_data);
} rm_node_vtable;

/*
 One event. Fields are only ever added at the end; types that you do not know are to be ignored,
 and freed.
 */
typedef struct rm_event {
  /* sizeof(rm_event) of the side that made the struct. */
  uint32_t struct_size;
  /* RM_EVENT_LOG. */
  uint32_t type;
  /* What it is about; yours to free. */
  struct rm_data *data;
} rm_event;

/*
 Receives the messages of the library, from any thread, several at once. `target` says which
 part speaks. The texts are borrowed for the call and end in no NUL.
 */
typedef void (*rm_log_fn)(void *user_data,
                          int32_t level,
                          const char *target,
                          size_t target_len,
                          const char *message,
                          size_t message_len);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/* The library's ABI version: `(major << 16) | minor`. */
uint32_t rm_abi_version(void);

/*
 A JSON object about the build: `version` (of the library), `abi` ("major.minor"), `target`
 (architecture and system), `profile`. Static; ends in a NUL.
 */
const char *rm_build_info(void);

/*
 Makes an error of your own, for rm_task_finish: one sentence on what went wrong, and another on
 what to do about it (`hint`; NULL with length 0 for none). The library adds which node and which
 item. Never NULL: a code that is not one of RM_E_* becomes RM_E_NODE, and what is not UTF-8
 is replaced.
 */
struct rm_error *rm_error_new(rm_status code,
                              const char *message,
                              size_t message_len,
                              const char *hint,
                              size_t hint_len);

/* The status that the failed call returned; RM_E_ARGUMENT for NULL. */
rm_status rm_error_code(const struct rm_error *error);

/*
 The error as a JSON object; NULL for NULL.

 Always there: `code` (a name from this header, as text) and `message`. Where known: `pointer`
 (JSON pointer, RFC 6901, into the manifest, or into the input where that is wrong), `node` and
 `node_type`, `item` (index of the input item in work, from 0), `hint` (what to do), `causes`
 (a list of such objects; for a manifest with several problems, the problems). `len` may be
 NULL. The text lives as long as the error.
 */
const char *rm_error_json(const struct rm_error *error, size_t *len);

/* Frees an error. */
void rm_error_free(struct rm_error *error);

/*
 Makes a value.

 With `release` NULL everything is copied. Otherwise bytes, tensors, audio and frames that are
 C-contiguous and aligned are used where they are, and must stay as they are, until
 `release(user_data)` (rule 7); everything else is copied and released before this returns.

 Fails with RM_E_JSON for text that is not JSON, an integer beyond 64 bits, a key that stands
 twice, or a reference to a child that is not there; RM_E_LIMIT for nesting beyond 100 levels;
 RM_E_UTF8; RM_E_UNSUPPORTED for an element type or a device that is not known; RM_E_ARGUMENT
 for parts that do not fit each other.
 */
rm_status rm_data_new(const struct rm_view *view,
                      rm_release_fn release,
                      void *user_data,
                      struct rm_data **out,
                      struct rm_error **error);

/*
 Fills a view of a value; set `out->struct_size` first. What it points to is borrowed and lives
 as long as `data`; to keep a child, retain it.

 A value of the kinds RM_JSON and RM_TEXT has its JSON in `json`; text has it in `data` as well,
 as it is. Fails with RM_E_LIMIT for JSON nested beyond 200 levels, which nodes could make.
 */
rm_status rm_data_view(const struct rm_data *data, struct rm_view *out, struct rm_error **error);

/* Another reference to the same value; NULL for NULL. */
struct rm_data *rm_data_retain(const struct rm_data *data);

/* Gives a reference back. */
void rm_data_free(struct rm_data *data);

/*
 Makes a value of a tensor of another library's, and takes it over: its deleter is called exactly
 once, on any thread, after the last reader is done. Memory that is C-contiguous and aligned is
 used where it is, and must stay as it is until then; otherwise the elements are copied, and the
 deleter is called before this returns. The memory is written to only if its flags say that it is
 a copy, and not that it is read-only.

 If this fails the tensor is as it was, and still yours. Fails with RM_E_UNSUPPORTED for a device
 other than the CPU, an element type that is not known (see rm_view), more than one lane, or a
 major version other than 1; RM_E_ARGUMENT for a shape that no array can have, or memory that is
 NULL; RM_E_LIMIT if there is not enough memory for a copy.
 */
rm_status rm_data_from_dlpack(struct DLManagedTensorVersioned *tensor,
                              struct rm_data **out,
                              struct rm_error **error);

/*
 Lends a tensor, audio's samples or a frame's pixels as a DLPack tensor of version 1, uncopied.
 Whoever gets it calls its deleter, once and from any thread; until then it keeps the memory
 alive, and counts as an rm_data.

 It is flagged as read-only unless `data` is the only reference to memory that may be written to:
 then you may write to it once you have freed `data`. Fails with RM_E_ARGUMENT for another kind
 of value.
 */
rm_status rm_data_to_dlpack(const struct rm_data *data,
                            struct DLManagedTensorVersioned **out,
                            struct rm_error **error);

/*
 Makes a runtime. `options_json` (NULL with length 0: all defaults) may set
 `{"limits": {"manifest_bytes": 1048576, "manifest_depth": 64, "nodes": 1000,
 "connections": 10000, "value_depth": 100, "values": 1000000}}`. `values` is how many values one
 item may have become at any moment, between the nodes and in the result. RM_E_ARGUMENT for more
 than 100 levels, 100,000 nodes or 1,000,000 connections.
 */
rm_status rm_runtime_new(const char *options_json,
                         size_t len,
                         struct rm_runtime **out,
                         struct rm_error **error);

/*
 Asks a runtime about itself. `what` is one of
   nodes      a list with an entry for every node type: name, summary, takes, gives, heavy,
              params (JSON Schema) and example
   schema:T   the JSON Schema of the parameters of the node type T
   limits     the limits in force
   stats      {"manifests_parsed": n}: without those that were remembered
   memory     the pool of the process: taken, reused (counts of blocks), held_bytes, held_blocks
   handles    how many objects of each type are alive in the process
 */
rm_status rm_runtime_query(struct rm_runtime *runtime,
                           const char *what,
                           size_t len,
                           struct rm_data **out,
                           struct rm_error **error);

/*
 Ends a runtime: pipelines of it cannot be made or run any more, nor node types added
 (RM_E_CLOSED), and runs that are going on are cancelled. Waits for them up to `timeout_ms`;
 RM_AGAIN if some are left then. A run that nobody is waiting for is left: it is over once it is
 waited for, pulled from or freed. Nor is an rm_task waited for: its node is cleaned up when it is
 finished. Closing again is fine; the default runtime (NULL) is RM_E_ARGUMENT. Do not call it from a
 callback.
 */
rm_status rm_runtime_close(struct rm_runtime *runtime, int64_t timeout_ms, struct rm_error **error);

/* Gives a runtime back. Without rm_runtime_close its pipelines and runs go on. */
void rm_runtime_free(struct rm_runtime *runtime);

/*
 Reads a manifest (version 1, JSON text) and checks all of it.

   {"version": "v1",
    "metadata": {"name": "..."},                                        optional
    "nodes": [{"id": "a", "node_type": "Add", "params": {"addend": 1}}, ...],
    "connections": [{"from": "a", "to": "b"}, ...]}

 The text of the last 64 good manifests is remembered, so the same text again costs little.

 Fails with RM_E_MANIFEST and every problem there is, RM_E_JSON, RM_E_UTF8, or RM_E_LIMIT.
 */
rm_status rm_pipeline_new(struct rm_runtime *runtime,
                          const char *manifest_json,
                          size_t len,
                          struct rm_pipeline **out,
                          struct rm_error **error);

/*
 The same for a manifest that may also name node types which the host implements without being
 called (if it can be, rm_runtime_add_node is for it): a JSON array of their names in
 `types_json`. They take any parameters; one that has the name of a type of the runtime's takes
 its place. An entry may also be `{"name": "Mine", "tasks": ["flush"]}`: its nodes do nothing
 but process values, take parameters and what is listed, of "initialize", "flush", "interrupt" and
 "cleanup"; they are not asked for the rest.
 What their nodes have to do comes as tasks, RM_TASK_*, see rm_call_exchange. Such a
 manifest is not remembered. A pipeline with such nodes is run with rm_run_open, or on a whole
 input with rm_run_start; what would wait for its end without a limit (rm_pipeline_run,
 rm_call_run with a slice_us of -1) is RM_E_UNSUPPORTED.

 Fails as rm_pipeline_new does, and with RM_E_JSON for `types_json` that is no array of texts.
 */
rm_status rm_pipeline_new_hosted(struct rm_runtime *runtime,
                                 const char *manifest_json,
                                 size_t len,
                                 const char *types_json,
                                 size_t types_len,
                                 struct rm_pipeline **out,
                                 struct rm_error **error);

/*
 What a pipeline consists of:
 `{"name", "stages", "threaded", "nodes": [{"id", "node_type", "heavy", "source", "sink"}]}`, with
 the nodes in the order of the manifest. A heavy node may take more than about 100 microseconds for
 a value. The nodes of a stage work one after the other, and stages beside each other; `threaded`
 says whether any works on the library's threads, as heavy nodes and nodes that wait do.
 */
rm_status rm_pipeline_info(const struct rm_pipeline *pipeline,
                           struct rm_data **out,
                           struct rm_error **error);

/*
 Runs a pipeline on a batch of items and waits for the end, on the calling thread.

 `input` (NULL: no items) is a JSON array of items, which go to every source node, or a JSON
 object from the ids of source nodes to such arrays. `timeout_ms` is the time for all of it; -1
 is without end. `result` is a JSON array: the outputs of all sinks, in the order in which the
 sinks stand in the manifest. `report` (may be NULL) is as for rm_run_report.

 Fails with RM_E_ARGUMENT for an input of another shape, RM_E_UNSUPPORTED if there are nodes of
 rm_pipeline_new_hosted, RM_E_TIMEOUT, RM_E_CLOSED, or what the failing node gives, as a rule
 RM_E_NODE or RM_E_IO; the error names the node and the item.
 */
rm_status rm_pipeline_run(const struct rm_pipeline *pipeline,
                          const struct rm_data *input,
                          int64_t timeout_ms,
                          struct rm_data **result,
                          struct rm_data **report,
                          struct rm_error **error);

/* Gives a pipeline back. */
void rm_pipeline_free(struct rm_pipeline *pipeline);

/*
 All in one: manifest and input as JSON text in, result as a value whose `json` is the text.

 `input_json` (NULL with length 0: no items) is as for rm_pipeline_run. Fails as
 rm_pipeline_new and rm_pipeline_run do, and with RM_E_JSON for an input that is not JSON.
 */
rm_status rm_run_manifest(const char *manifest_json,
                          size_t manifest_len,
                          const char *input_json,
                          size_t input_len,
                          struct rm_data **result,
                          struct rm_error **error);

/* Begins a run; arguments as for rm_pipeline_run. Nothing happens before rm_run_wait. */
rm_status rm_run_start(const struct rm_pipeline *pipeline,
                       const struct rm_data *input,
                       int64_t timeout_ms,
                       struct rm_run **out,
                       struct rm_error **error);

/*
 Works on a run for up to `timeout_ms`, or a little longer: a node is not stopped in the middle
 of a value. 0 works for about 100 microseconds.

 RM_OK: complete, and `result` and `report` (may be NULL) are as for rm_pipeline_run. RM_AGAIN:
 there is more to do; wait again. After RM_OK or a failure the run is over: waiting again is
 RM_E_CLOSED. RM_E_BUSY: another thread is waiting. Other failures as for rm_pipeline_run.

 A run of rm_run_open is complete when its input has ended and all is through; its outputs are
 pulled, and the `result` is an empty array.
 */
rm_status rm_run_wait(struct rm_run *run,
                      int64_t timeout_ms,
                      struct rm_data **result,
                      struct rm_data **report,
                      struct rm_error **error);

/*
 Counts and times of a run so far, or of a run that is over:
 `{"items", "items_done", "time_us", "sinks": {id: outputs}, "nodes": {id: {"node_type",
 "items_in", "items_out", "errors", "retries", "dropped", "time_us", "p50_us", "p99_us"}},
 "queues": [{"from", "to", "fill", "peak", "dropped"}]}`. Times are in microseconds; for a node
 that waits the time includes the waiting. Half, and 99 of 100, of the values took no longer than
 `p50_us` and `p99_us`, to within a factor of 2. The `dropped` of a node and of a queue count
 values; `fill` and `peak` count what items put on the connection, one for each item.

 RM_E_BUSY while another thread is waiting for a run of rm_run_start whose nodes compute one
 after the other. May be asked in a forked child of a run from before.
 */
rm_status rm_run_report(struct rm_run *run, struct rm_data **out, struct rm_error **error);

/*
 Ends a run: whoever waits for it, pushes or pulls, or does so next, gets RM_E_CANCELLED as soon as
 the node in work is done with its value. What was not pulled is discarded. NULL, and a run that is
 over, are left alone.
 */
void rm_run_cancel(struct rm_run *run);

/*
 Gives a run back and, unless it is over, ends it; its nodes are cleaned up. Who is waiting for
 it gets RM_E_CANCELLED. Waits until the nodes in work are done with their values.
 */
void rm_run_free(struct rm_run *run);

/*
 rm_run_start and the first rm_run_wait in one call, with the input and the outputs as they are.

 `text` holds the input as for rm_pipeline_run. Without a text (`len` 0) the parts are the items.
 Parts that are C-contiguous and aligned are used where they are: the memory must stay as it is
 until the run is freed and no thread waits for it any more, and for as long as there are results
 that may refer to it; where there is no run, until this returns.

 If there are nodes of rm_pipeline_new_hosted and `most_tasks` is not 0, it returns as soon as there
 are tasks for the host: RM_AGAIN, and a text as from rm_call_exchange, which is also what goes on,
 with the run as `session`. If the text does not fit in `buffer`, or has parts, the tasks come with
 the first exchange.

 RM_OK: complete; what `call` points to lives as long as its run, or where there is none until its
 next use. RM_AGAIN: there is more to do; go on with rm_call_wait, or with rm_run_wait. Failures as
 for rm_pipeline_run, with the error in `call`; RM_E_ARGUMENT, RM_E_JSON, RM_E_UTF8 and RM_E_LIMIT
 also for an input that cannot be read. The fields `run` and `error` are overwritten: clear them
 before.
 */
rm_status rm_call_run(struct rm_call *call, const char *text, size_t len);

/*
 Goes on with the `run` that rm_call_run has left in the struct, for `slice_us` or a little longer,
 and gives what that gives. The pipeline, the kind and the parts have to be those of that call.

 RM_OK: complete, as from rm_call_run; the run stays until it is cleared. RM_AGAIN: there is more to
 do. Failures as for rm_run_wait, with the error in `call`. The field `error` is overwritten: clear
 it before.
 */
rm_status rm_call_wait(struct rm_call *call);

/*
 Frees the run, the error and what is held, that a call has left in the struct, and sets the
 fields to NULL. The session stays.
 */
void rm_call_clear(struct rm_call *call);

/*
 What the packed counts of a call say, in the form of rm_run_report. `counts` are the bytes that
 stand behind the outputs in the text of a call with RM_DETACH, of a run of the same pipeline.
 May be asked in a forked child with a pipeline from before.
 */
rm_status rm_pipeline_report(const struct rm_pipeline *pipeline,
                             const char *counts,
                             size_t len,
                             struct rm_data **out,
                             struct rm_error **error);

/*
 Opens a run that is fed piece by piece: rm_run_push, rm_run_end, rm_run_pull. Up to `window` items
 (1 or more; 0 is 64) are inside at once: pushed, and not yet through all nodes or with outputs
 that were not pulled. `timeout_ms` is the time for all of it; -1 is without end.

 Cheap nodes work on the thread that pushes or pulls; heavy nodes and nodes that wait work on the
 library's threads. RM_E_CLOSED if the runtime is.
 */
rm_status rm_run_open(const struct rm_pipeline *pipeline,
                      uint64_t window,
                      int64_t timeout_ms,
                      struct rm_run **out,
                      struct rm_error **error);

/*
 Pushes an item to every source node, or to the one whose id is `node` (NULL for all). Waits up to
 `timeout_ms` for room; RM_AGAIN if there was none, and the item is not in. `number` (may be NULL)
 gets the item's number, counted from 0.

 Fails with what has ended the run; RM_E_CLOSED after rm_run_end and for a run that was not
 opened; RM_E_ARGUMENT for a node that is not a source; RM_E_LIMIT for an item that is nested too
 deep.
 */
rm_status rm_run_push(struct rm_run *run,
                      const struct rm_data *item,
                      const char *node,
                      size_t node_len,
                      int64_t timeout_ms,
                      uint64_t *number,
                      struct rm_error **error);

/*
 Says that there are no more items: the nodes are flushed, and rm_run_pull comes to RM_END. More
 than once is fine. Fails with what has ended the run.
 */
rm_status rm_run_end(struct rm_run *run, struct rm_error **error);

/*
 Takes up to `capacity` outputs, and waits up to `timeout_ms` for the first; set the `struct_size`
 of the first in `out`. `count` gets how many there are. Outputs come by item, and within an item
 in the order of the sinks in the manifest.

 RM_AGAIN: there was none in this time. RM_END: the run is complete, and there are none left.
 Fails, after the outputs that came before it, with what has ended the run; a cancellation comes
 at once. RM_E_CLOSED for a run that was not opened.
 */
rm_status rm_run_pull(struct rm_run *run,
                      int64_t timeout_ms,
                      struct rm_output *out,
                      uint32_t capacity,
                      uint32_t *count,
                      struct rm_error **error);

/*
 Discards what is in flight and keeps the run: items that were pushed and are not yet through,
 and outputs that were not pulled. What stays: the nodes with their state, unless they forget it;
 the count of items; parameters that were set. A node that is at work on a value is not stopped,
 unless it waits; what it gives is discarded. RM_E_CLOSED for a run that was not opened.
 */
rm_status rm_run_interrupt(struct rm_run *run, struct rm_error **error);

/*
 Gives a node other parameters, from the next item that is pushed: a JSON object of those that
 change. In the node's place comes a fresh one; what the old one held is lost. RM_E_ARGUMENT for a
 node that is not there, RM_E_MANIFEST for parameters that it does not take, with a pointer into
 them, RM_E_JSON for text that is no JSON object; RM_E_CLOSED after the end of input and for a run
 that was not opened.
 */
rm_status rm_run_set(struct rm_run *run,
                     const char *node,
                     size_t node_len,
                     const char *params_json,
                     size_t params_len,
                     struct rm_error **error);

/*
 What a run is at, for a person who wonders why nothing moves: JSON
 `{"phase", "items", "queued", "inside", "outputs", "stages": [{"nodes", "state", "for", "node",
 "item", "since_us"}], "joins": {node: {node: count}}}`. `queued` is how many items no node has
 begun with; `state` is "running", "ready", "waiting", "done" or "failed"; `for` says for what it
 waits; `joins` has how many values wait for partners, by node and connection.
 */
rm_status rm_run_diagnose(struct rm_run *run, struct rm_data **out, struct rm_error **error);

/*
 A descriptor that becomes readable when there is something to do for somebody who has found
 nothing: an output, room, a task, the end. It is also readable at first. Read it empty before you
 look again, never after. It belongs to the run and never blocks. -1 where there are no such
 descriptors (Windows), and if there is none left.
 */
int64_t rm_run_fd(struct rm_run *run);

/*
 Items in and outputs out in one crossing, for a run that was opened: `call->session`.

 `text` is of kind RM_MARSHAL: `[items, answers, node]`. `items` go in as far as there is room, to
 all sources or to the one whose id is `node` (None for all); `accepted` gets how many that were.
 With the flag RM_ITEM the text is one item for all sources; and without a text the binary parts
 are the items, if there are any, or with RM_ROWS their rows, each of which is copied. `answers`
 are those to tasks, `[node, id, values, ...]`, where an object `{"code", "message", "hint"}` in
 place of the values is a failure (all optional; the code is RM_E_NODE unless it is one of RM_E_*).
 Binary parts are copied, but for tensors with a `tag`: those are lent. Their memory must stay as
 it is until the tag comes in `released`, or the run and everything that came out of it is freed;
 until then no other part may have this tag.

 Then, unless there is what `want` says (RM_WANT_*, 0 for nothing), works and waits for that, for
 `slice_us`. Who takes tasks waits for them too: those that are found are given when it returns,
 and an output that needs them does not come before. The text that `call` gives is `[outputs,
 tasks]`: `outputs` up to `most`, `[item, node, value, ...]` with the places of sinks and item -1
 for what was flushed; `tasks` up to `most_tasks`, `[node, id, item, kind, value, ...]` with
 RM_TASK_*. It lies in `buffer`, or belongs to `held`.

 With RM_WANT_RESULT a run that is complete, and has no tasks left, gives its result instead, once:
 RM_END, and as text the pair that rm_call_run gives with RM_DETACH. RM_UNCHANGED then says that all
 outputs are tensors that went in with tags, and came out whole; in the text are their tags.

 RM_OK: there is what was wanted, and all items are in. RM_AGAIN: not in this time, or there was no
 room for all of them; there may be something else. RM_END: the run is complete, and its outputs are
 gone. Fails, after the outputs that came before it, with what has ended the run; tasks that are
 left then are given all the same. Only if there are items, which are then not taken, it fails before
 it gives anything. RM_E_CLOSED also for items after rm_run_end and for a run that was not opened;
 RM_E_ARGUMENT, RM_E_UTF8 and RM_E_LIMIT for a text
 that cannot be read. The fields `error` and `held` are overwritten: clear them before.
 */
rm_status rm_call_exchange(struct rm_call *call,
                           const char *text,
                           size_t len);

/*
 Registers a type of nodes that the host implements, under a name that manifests may then use in
 this runtime (NULL: the default one) as they use the library's own: in batches and in runs that are
 fed, with "on_error", "timeout", "join", "parallelism" and queues. `user_data` goes to init and
 to destroy.

 Fails with RM_E_ARGUMENT for a name that the library or an earlier call has given to a type, with
 or without the ending "Node", for a struct whose size or flags are not known or that has no
 process, and for a schema that is not one; RM_E_JSON; RM_E_UTF8; RM_E_CLOSED if the runtime is.
 The default runtime of a forked child begins without the types of its parent.
 */
rm_status rm_runtime_add_node(struct rm_runtime *runtime,
                              const char *node_type,
                              size_t len,
                              const struct rm_node_vtable *vtable,
                              void *user_data,
                              struct rm_error **error);

/*
 Gives a value from a task to the nodes behind this one, or to the result; any number of times.
 It goes there when the task is finished with RM_OK, and is discarded otherwise. RM_E_CANCELLED
 if nobody waits for the task any more; RM_E_LIMIT once these are more values than the limit of
 the runtime allows, with which the task is to be finished; RM_E_ARGUMENT from init.
 */
rm_status rm_task_emit(struct rm_task *task, const struct rm_data *data, struct rm_error **error);

/*
 Whether a task is still wanted, to be asked every few milliseconds by who works for long: RM_OK
 if it is. RM_E_CANCELLED or RM_E_TIMEOUT if it is not: the run was cancelled or freed, its time
 or that for the value is over, or what is in flight was discarded. What the task gives is then
 ignored, but it is still to be finished, for example with this status. Init without RM_NODE_WAITS
 is not told.
 */
rm_status rm_task_cancelled(const struct rm_task *task);

/*
 Finishes a task and takes it away: do not use it after that. With RM_OK the node has done what
 it was called for. With a negative status it has failed, with `error` (may be NULL; stays yours)
 for the message and the hint. A positive status is a failure too, since a task is finished or not.
 Never waits for anybody, but runs cleanup and destroy where this was what they waited for.
 */
void rm_task_finish(struct rm_task *task, rm_status status, const struct rm_error *error);

/* Makes an empty queue. */
rm_status rm_queue_new(struct rm_queue **out, struct rm_error **error);

/*
 Where a queue counts the events that it holds, to be read at no cost (as volatile: the library
 writes it from other threads); NULL for NULL. Lives as long as the queue. The count may be a moment old: whoever reads 0 and needs to be sure asks
 rm_queue_next.
 */
const uint32_t *rm_queue_pending(const struct rm_queue *queue);

/*
 Fetches up to `capacity` events into the array `out`; set the struct_size of its first entry.
 Waits up to `timeout_ms` for the first one. RM_OK: `count` events. RM_AGAIN: none came.
 */
rm_status rm_queue_next(struct rm_queue *queue,
                        int64_t timeout_ms,
                        struct rm_event *out,
                        uint32_t capacity,
                        uint32_t *count,
                        struct rm_error **error);

/*
 An rm_log_fn that puts the message on a queue: pass it to rm_set_log with the queue as
 user_data.
 */
void rm_queue_log(void *user_data,
                  int32_t level,
                  const char *target,
                  size_t target_len,
                  const char *message,
                  size_t message_len);

/* Gives a queue back, with the events that are still in it. */
void rm_queue_free(struct rm_queue *queue);

/*
 Sends the library's messages up to `max_level` (0 none, RM_LOG_ERROR to RM_LOG_TRACE all) to
 `log`, process-wide; NULL: nowhere, as at first. Nothing is ever written to stdout or stderr.
 When this returns, the function that was set before is not running and will not be called
 again; so do not call it from there. A queue that is set with rm_queue_log is kept alive.
 */
rm_status rm_set_log(rm_log_fn log, void *user_data, int32_t max_level, struct rm_error **error);

/*
 Frees the object, of whatever type, to which a pointer of yours points, and sets the pointer to
 NULL: `slot` is the address of the pointer. For hosts whose finalizers are given the place of
 an object, which they own before a call has filled it. NULL, and a slot that holds NULL, do
 nothing.
 */
void rm_clear(void *slot);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* REMOTEMEDIA_H */
