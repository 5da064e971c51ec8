/* Streams buffers through appsrc ! identity ! identity ! identity ! appsink, from C.
 *
 *   gst_stream COUNT SIZE WINDOW INPUT OUTPUT
 *
 * INPUT holds buffers of SIZE bytes; COUNT are pushed, from the beginning again after the last, and
 * at most WINDOW are inside at once. OUTPUT is written with as many of the last buffers pulled as
 * INPUT holds. Prints the seconds between the first push and the last pull.
 */
#include <gst/app/gstappsink.h>
#include <gst/app/gstappsrc.h>
#include <gst/gst.h>
#include <stdio.h>
#include <stdlib.h>

static void check(int good, const char *what) {
    if (!good) {
        fprintf(stderr, "gst_stream: %s failed\n", what);
        exit(1);
    }
}

int main(int argc, char **argv) {
    check(argc == 6, "reading the arguments");
    size_t count = strtoull(argv[1], NULL, 10), size = strtoull(argv[2], NULL, 10);
    size_t window = strtoull(argv[3], NULL, 10);
    char *content = NULL;
    gsize held = 0;
    check(g_file_get_contents(argv[4], &content, &held, NULL), "reading INPUT");
    size_t kept = held / size, place = 0;
    GstBuffer **last = calloc(kept, sizeof *last);
    check(kept > 0 && last != NULL, "keeping buffers");

    gst_init(NULL, NULL);
    GstElement *pipeline = gst_parse_launch(
        "appsrc name=in format=time max-bytes=0 caps=application/x-array ! identity silent=true"
        " ! identity silent=true ! identity silent=true ! appsink name=out sync=false",
        NULL);
    check(pipeline != NULL, "making the pipeline");
    GstAppSrc *in = GST_APP_SRC(gst_bin_get_by_name(GST_BIN(pipeline), "in"));
    GstAppSink *out = GST_APP_SINK(gst_bin_get_by_name(GST_BIN(pipeline), "out"));
    gst_element_set_state(pipeline, GST_STATE_PLAYING);

    gint64 begun = g_get_monotonic_time();
    for (size_t pushed = 0, pulled = 0; pulled < count;) {
        if (pushed < count && pushed - pulled < window) {
            char *start = content + pushed++ % kept * size;
            GstBuffer *buffer = gst_buffer_new_wrapped_full(GST_MEMORY_FLAG_READONLY, start, size,
                                                            0, size, NULL, NULL);
            check(gst_app_src_push_buffer(in, buffer) == GST_FLOW_OK, "pushing");
            continue;
        }
        GstSample *sample = gst_app_sink_pull_sample(out);
        check(sample != NULL, "pulling");
        GstBuffer **slot = &last[place++ % kept];
        gst_clear_buffer(slot);
        *slot = gst_buffer_ref(gst_sample_get_buffer(sample));
        gst_sample_unref(sample);
        pulled++;
    }
    printf("%.9f\n", (double)(g_get_monotonic_time() - begun) / 1e6);

    FILE *file = fopen(argv[5], "wb");
    check(file != NULL, "opening OUTPUT");
    for (size_t at = 0; at < kept; at++) {
        GstBuffer *buffer = last[(place + at) % kept];
        GstMapInfo map;
        check(buffer != NULL && gst_buffer_map(buffer, &map, GST_MAP_READ), "reading a buffer");
        check(fwrite(map.data, 1, map.size, file) == map.size, "writing OUTPUT");
        gst_buffer_unmap(buffer, &map);
    }
    check(fclose(file) == 0, "writing OUTPUT");
    gst_element_set_state(pipeline, GST_STATE_NULL);
    return 0;
}
