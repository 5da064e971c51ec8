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
