/* The viewers of a benchmark: one process, as many as asked for, so cheap that the load is not the limit.
 *
 *     player [-w PATH [-H HEADER]] [-n COUNT] [-f FIRST] [-i] [-a] [-j MOST] [-r RATE] [-c | -p | -u BYTES] [-k RATE] PORT
 *
 * Viewer i (FIRST <= i < FIRST + COUNT) connects to PORT of 127.0.0.1, or with -i to PORT + i, and logs in: RFB 3.8
 * (RFC 6143), security None. With -w it speaks RFB in websocket frames (RFC 6455): %d in PATH becomes i, and in
 * HEADER, a line of the request. With -a it has a source address of its own in 127.0.0.0/8. At most MOST connect at the same time (0: all at once).
 *
 *   -r RATE   asks for an update RATE times a second; viewers' turns are spread at random over the interval.
 *             One request is outstanding at most: one that is due meanwhile is `late`, and the latency that it would have
 *             seen is counted (coordinated omission). How late this process itself is with its requests is `lag`.
 *   -c        asks again when an answer is complete; latency is then one-way: from the time that the desktop wrote into
 *             the pixels. With -r a pointer event is sent RATE times a second
 *   -p        asks once and takes all that comes
 *   -u BYTES  sends clipboard texts as fast as they are taken, each a frame of BYTES
 *   -k RATE   RATE times a second one of the viewers hangs up and comes back
 *
 * It tells on standard output, a line of JSON each: `arrived` when all have logged in or failed, and counters since then or
 * since the last time whenever `mark` is read from standard input. Times are in milliseconds. The end of standard input
 * ends it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum { BUFFER = 256 * 1024, EVENTS = 256, MOST_FRAME = 64 * 1024, PATIENCE = 30, FINE = 32, SLOTS = 64 * FINE };

enum state { AWAY, CONNECTING, UPGRADING, VERSION, SECURITY, RESULT, INIT, NAME, UPDATE, RECTANGLE, STAMP, GONE };

enum reason { REFUSED, RESET, CLOSED, TIMED_OUT, HTTP, NOT_RFB, REASONS };
static const char *reasons[] = {"refused", "reset", "closed", "timed out", "no websocket", "no RFB"};

/* Logarithmic, 32 slots for each doubling: right to 2 %. */
struct histogram {
    uint32_t slots[SLOTS];
    uint64_t count, most;
};

struct viewer {
    int fd, index;
    enum state state;
    bool wants_room, was_in;
    uint64_t began, asked;
    unsigned char head[32]; /* of the RFB message that is being read */
    size_t have, skip;
    unsigned rectangles, pixel;
    unsigned char frame[10]; /* head of the websocket frame that is being read */
    size_t frame_have;
    uint64_t payload;
    size_t up_sent; /* of the frame that is being sent, with -u */
};

static const char *path, *header = "";
static int count = 1, first, port, most_arriving, poller;
static bool own_ports, own_addresses, chases, listens;
static double rate, churn;
static size_t up_bytes;
static struct viewer *viewers;
static int *turns; /* viewers in the order of their turns */
static uint64_t *phases;
static int arriving, settled, begun;
static uint64_t started, opened, marked, turn, churned; /* opened: when all had arrived */
static unsigned char up_frame[MOST_FRAME + 16];
static size_t up_length;
static struct { uint64_t asked, late, answers, in, out, dropped, returned, failed[REASONS]; } tally;
static struct histogram connects, banners, logins, latencies, lags;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + time.tv_nsec;
}

/* ---- figures */

static void observe(struct histogram *histogram, uint64_t value) {
    unsigned shift = value < FINE ? 0 : 63 - __builtin_clzll(value) - 5;
    histogram->slots[value < FINE ? value : (shift + 1) * FINE + ((value >> shift) & (FINE - 1))]++;
    histogram->count++;
    if (value > histogram->most) histogram->most = value;
}

static double quantile(const struct histogram *histogram, double share) {
    uint64_t left = ceil(share * histogram->count);
    for (size_t slot = 0; slot < SLOTS; slot++) {
        if (histogram->slots[slot] < left) {
            left -= histogram->slots[slot];
        } else if (left) {
            uint64_t low = slot < FINE ? slot : (uint64_t)(FINE + slot % FINE) << (slot / FINE - 1);
            return low / 1e6;
        }
    }
    return histogram->most / 1e6;
}

static void show(const char *name, const struct histogram *histogram) {
    printf(", \"%s\": {\"count\": %lu, \"p50\": %.4f, \"p90\": %.4f, \"p99\": %.4f, \"p999\": %.4f, \"max\": %.4f}", name,
           histogram->count, quantile(histogram, .5), quantile(histogram, .9), quantile(histogram, .99),
           quantile(histogram, .999), histogram->most / 1e6);
}

static void show_failed(void) {
    int shown = 0;
    printf(", \"failed\": {");
    for (int i = 0; i < REASONS; i++)
        if (tally.failed[i]) printf("%s\"%s\": %lu", shown++ ? ", " : "", reasons[i], tally.failed[i]);
    printf("}");
}

static void tell_arrival(void) {
    int in = 0;
    for (int i = 0; i < count; i++) in += viewers[i].was_in;
    printf("{\"event\": \"arrived\", \"connected\": %d, \"seconds\": %.4f", in, (now() - started) / 1e9);
    show_failed();
    show("connect", &connects);
    show("banner", &banners);
    show("login", &logins);
    printf("}\n");
    fflush(stdout);
}

static void tell_mark(void) {
    uint64_t time = now();
    printf("{\"event\": \"mark\", \"seconds\": %.4f, \"asked\": %lu, \"late\": %lu, \"answers\": %lu, \"in\": %lu, "
           "\"out\": %lu, \"dropped\": %lu, \"returned\": %lu",
           (time - marked) / 1e9, tally.asked, tally.late, tally.answers, tally.in, tally.out, tally.dropped,
           tally.returned);
    show_failed();
    show("latency", &latencies);
    show("lag", &lags);
    printf("}\n");
    fflush(stdout);
    memset(&tally, 0, sizeof tally);
    memset(&latencies, 0, sizeof latencies);
    memset(&lags, 0, sizeof lags);
    marked = time;
}

/* ---- sending */

static void watch(struct viewer *viewer, bool wants_room) {
    struct epoll_event event = {.events = EPOLLIN | (wants_room ? EPOLLOUT : 0u), .data.ptr = viewer};
    if (viewer->wants_room == wants_room) return;
    viewer->wants_room = wants_room;
    if (epoll_ctl(poller, EPOLL_CTL_MOD, viewer->fd, &event)) die("epoll_ctl");
}

/* A viewer is in, or was, or never will be: the next may connect. */
static void settle(struct viewer *viewer, bool in) {
    viewer->was_in = in;
    arriving--;
    if (++settled == count) {
        tell_arrival();
        memset(&tally, 0, sizeof tally);
        opened = marked = now();
    }
}

static void leave(struct viewer *viewer, enum reason reason) {
    bool came_back = settled == count;
    close(viewer->fd);
    viewer->fd = -1;
    if (viewer->state >= UPDATE) {
        tally.dropped++;
    } else {
        tally.failed[reason]++;
        if (!came_back) settle(viewer, false);
    }
    viewer->state = GONE;
}

/* Section 5.2: a masked binary frame. The mask is the same for all: nobody looks into it here. */
static size_t frame(unsigned char *to, int opcode, const void *data, size_t length) {
    static const unsigned char mask[4] = {0x5a, 0xc3, 0x96, 0x3c};
    size_t head = 2;
    to[0] = 0x80 | opcode;
    if (length < 126) {
        to[1] = 0x80 | length;
    } else {
        to[1] = 0x80 | 126;
        to[2] = length >> 8;
        to[3] = length;
        head = 4;
    }
    memcpy(to + head, mask, 4);
    for (size_t i = 0; i < length; i++) to[head + 4 + i] = ((const unsigned char *)data)[i] ^ mask[i % 4];
    return head + 4 + length;
}

/* A few bytes; false when they were not taken, and then the connection is of no use any more. */
static bool say(struct viewer *viewer, int opcode, const void *data, size_t length) {
    unsigned char framed[160];
    if (path && viewer->state != UPGRADING) {
        length = frame(framed, opcode, data, length);
        data = framed;
    }
    return send(viewer->fd, data, length, MSG_NOSIGNAL) == (ssize_t)length;
}

static bool ask(struct viewer *viewer, uint64_t time) {
    viewer->asked = time;
    tally.asked++;
    return say(viewer, 2, "\3\0\0\0\0\0\0\100\0\40", 10); /* FramebufferUpdateRequest, 64 x 32 pixels */
}

static void pour(struct viewer *viewer) {
    for (int rounds = 0; rounds < 64; rounds++) {
        ssize_t sent = send(viewer->fd, up_frame + viewer->up_sent, up_length - viewer->up_sent, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) return leave(viewer, RESET);
            break;
        }
        tally.out += sent;
        viewer->up_sent = (viewer->up_sent + sent) % up_length;
    }
    watch(viewer, true);
}

/* ---- reading */

static bool logged_in(struct viewer *viewer) {
    observe(&logins, now() - viewer->began);
    viewer->state = UPDATE;
    if (settled == count) tally.returned++;
    else settle(viewer, true);
    if (!say(viewer, 2, "\0\0\0\0\x20\x18\0\1\0\xff\0\xff\0\xff\x10\x08\0\0\0\0", 20)) return false;
    if (!say(viewer, 2, "\2\0\0\1\0\0\0\0", 8)) return false; /* SetEncodings: Raw */
    if (up_bytes) watch(viewer, true);
    return !(chases || listens) || ask(viewer, 0);
}

/* An update is complete. */
static bool answered(struct viewer *viewer) {
    tally.answers++;
    if (chases) return ask(viewer, 0);
    if (!viewer->asked) return true;
    uint64_t latency = now() - viewer->asked, interval = rate ? 1e9 / rate : 0;
    viewer->asked = 0;
    observe(&latencies, latency);
    while (interval && latency > interval) observe(&latencies, latency -= interval);
    return true;
}

static size_t needed(const struct viewer *viewer) {
    static const unsigned char bytes[] = {[VERSION] = 12, [SECURITY] = 2, [RESULT] = 4, [INIT] = 24,
                                          [NAME] = 0,     [UPDATE] = 4,   [RECTANGLE] = 12, [STAMP] = 8};
    return bytes[viewer->state];
}

static bool next_rectangle(struct viewer *viewer) {
    if (viewer->rectangles--) {
        viewer->state = RECTANGLE;
        return true;
    }
    viewer->state = UPDATE;
    return true;
}

/* The message of `needed()` bytes is in `head`. False ends the connection. */
static bool on_message(struct viewer *viewer) {
    const unsigned char *head = viewer->head;
    uint64_t stamp;
    size_t area;
    switch (viewer->state) {
        case VERSION:
            observe(&banners, now() - viewer->began);
            viewer->state = SECURITY;
            return !memcmp(head, "RFB 003.", 8) && say(viewer, 2, "RFB 003.008\n", 12);
        case SECURITY:
            viewer->state = RESULT;
            return head[0] == 1 && head[1] == 1 && say(viewer, 2, "\1", 1);
        case RESULT:
            viewer->state = INIT;
            return !head[3] && say(viewer, 2, "\1", 1);
        case INIT:
            viewer->skip = (size_t)head[20] << 24 | head[21] << 16 | head[22] << 8 | head[23];
            viewer->state = NAME;
            return true;
        case UPDATE:
            viewer->rectangles = head[2] << 8 | head[3];
            return head[0] == 0 && viewer->rectangles && next_rectangle(viewer);
        case RECTANGLE:
            area = (size_t)(head[4] << 8 | head[5]) * (head[6] << 8 | head[7]) * 4;
            viewer->skip = area;
            if (chases && area >= sizeof stamp) {
                viewer->skip = 0;
                viewer->pixel = area - sizeof stamp;
                viewer->state = STAMP;
            }
            return true;
        case STAMP:
            memcpy(&stamp, head, sizeof stamp);
            observe(&latencies, now() - stamp);
            viewer->skip = viewer->pixel;
            viewer->state = RECTANGLE;
            return true;
        default:
            return false;
    }
}

/* What was to be skipped is gone. */
static bool on_skipped(struct viewer *viewer) {
    if (viewer->state == NAME) return logged_in(viewer);
    next_rectangle(viewer);
    return viewer->state != UPDATE || answered(viewer);
}

static bool digest(struct viewer *viewer, const unsigned char *data, size_t length) {
    while (length) {
        size_t part = viewer->skip ? viewer->skip : needed(viewer) - viewer->have;
        if (part > length) part = length;
        if (viewer->skip) {
            viewer->skip -= part;
            if (!viewer->skip && !on_skipped(viewer)) return false;
        } else {
            memcpy(viewer->head + viewer->have, data, part);
            viewer->have += part;
            if (viewer->have == needed(viewer)) {
                viewer->have = 0;
                if (!on_message(viewer)) return false;
            }
        }
        data += part;
        length -= part;
    }
    return true;
}

/* Section 5.2, as a server sends them: unmasked. */
static bool unframe(struct viewer *viewer, const unsigned char *data, size_t length) {
    while (length) {
        if (viewer->payload) {
            size_t part = viewer->payload < length ? viewer->payload : length;
            if (!digest(viewer, data, part)) return false;
            viewer->payload -= part;
            data += part;
            length -= part;
            continue;
        }
        viewer->frame[viewer->frame_have++] = *data++;
        length--;
        if (viewer->frame_have < 2) continue;
        unsigned small = viewer->frame[1] & 0x7f;
        size_t head = small == 127 ? 10 : small == 126 ? 4 : 2;
        int opcode = viewer->frame[0] & 0xf;
        if (opcode >= 8) head += small; /* a control frame is read whole: those that come here are short */
        if (head > sizeof viewer->frame) return false;
        if (viewer->frame_have < head) continue;
        viewer->frame_have = 0;
        if (opcode == 8) return false;
        if (opcode == 9 && !say(viewer, 10, viewer->frame + 2, small)) return false;
        if (opcode >= 8) continue;
        viewer->payload = small;
        if (small >= 126) viewer->payload = 0;
        for (size_t i = 2; small >= 126 && i < head; i++) viewer->payload = viewer->payload << 8 | viewer->frame[i];
    }
    return true;
}

static void on_readable(struct viewer *viewer) {
    static unsigned char buffer[BUFFER + 1];
    ssize_t got = recv(viewer->fd, buffer, BUFFER, 0);
    unsigned char *data = buffer;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return leave(viewer, got < 0 ? RESET : CLOSED);
    tally.in += got;
    if (viewer->state == UPGRADING) {
        buffer[got] = 0; /* the answer's head comes in one piece: it is short, and the first on its connection */
        char *end = strstr((char *)buffer, "\r\n\r\n");
        if (!end || strncmp((char *)buffer, "HTTP/1.1 101", 12)) return leave(viewer, HTTP);
        viewer->state = VERSION;
        data = (unsigned char *)end + 4;
        got -= data - buffer;
    }
    if (!(path ? unframe(viewer, data, got) : digest(viewer, data, got))) leave(viewer, NOT_RFB);
}

/* ---- coming and going */

static void connect_one(struct viewer *viewer) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from = to;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = viewer};
    int yes = 1, index = viewer->index;
    memset(viewer, 0, sizeof *viewer);
    viewer->index = index;
    viewer->began = now();
    viewer->state = CONNECTING;
    viewer->wants_room = true;
    viewer->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (viewer->fd < 0) die("socket");
    setsockopt(viewer->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    to.sin_port = htons(own_ports ? port + index : port);
    if (own_addresses) {
        from.sin_addr.s_addr = htonl(0x7f010001u + index);
        setsockopt(viewer->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        if (bind(viewer->fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    }
    if (epoll_ctl(poller, EPOLL_CTL_ADD, viewer->fd, &event)) die("epoll_ctl");
    if (connect(viewer->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) leave(viewer, REFUSED);
}

static void on_connected(struct viewer *viewer) {
    char request[1024], where[256], more[256];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(viewer->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) return leave(viewer, REFUSED);
    observe(&connects, now() - viewer->began);
    watch(viewer, false);
    viewer->state = path ? UPGRADING : VERSION;
    if (!path) return;
    snprintf(where, sizeof where, path, viewer->index);
    snprintf(more, sizeof more, header, viewer->index);
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                          "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
                          "Accept-Language: en-GB,en;q=0.5\r\nSec-WebSocket-Protocol: binary\r\n%s%s\r\n",
                          where, port, more, *more ? "\r\n" : "");
    if (!say(viewer, 2, request, length)) leave(viewer, RESET);
}

/* Connect whoever may; give up who waits for too long. Called after each batch of events until all have settled. */
static void arrive(void) {
    uint64_t time = now();
    while (begun < count && (!most_arriving || arriving < most_arriving)) {
        arriving++;
        connect_one(&viewers[begun++]);
    }
    for (int i = 0; i < begun && time > started + (uint64_t)PATIENCE * 1000000000; i++) {
        struct viewer *viewer = &viewers[i];
        if (viewer->state < UPDATE && time > viewer->began + (uint64_t)PATIENCE * 1000000000) leave(viewer, TIMED_OUT);
    }
}

/* ---- turns */

static int by_phase(const void *one, const void *other) {
    uint64_t a = phases[*(const int *)one], b = phases[*(const int *)other];
    return a < b ? -1 : a > b;
}

static void shuffle_turns(void) {
    uint64_t interval = 1e9 / rate, seed = 20260101;
    turns = calloc(count, sizeof *turns);
    phases = calloc(count, sizeof *phases);
    if (!turns || !phases) die("calloc");
    for (int i = 0; i < count; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        phases[i] = (seed >> 20) % interval;
        turns[i] = i;
    }
    qsort(turns, count, sizeof *turns, by_phase);
}

static void take_turn(struct viewer *viewer) {
    if (viewer->state < UPDATE || viewer->state == GONE) return;
    if (chases) {
        if (!say(viewer, 2, "\5\0\0\144\0\144", 6)) leave(viewer, RESET); /* PointerEvent at 100, 100 */
    } else if (viewer->asked) {
        tally.late++;
    } else if (!ask(viewer, now())) {
        leave(viewer, RESET);
    }
}

/* Everything that is due; returns the nanoseconds until something else is, at most a second. */
static uint64_t take_turns(void) {
    uint64_t time = now(), wait = 1000000000, due;
    if (settled < count) return 10000000;
    while (rate) {
        int who = turns[turn % count];
        due = opened + turn / count * (uint64_t)(1e9 / rate) + phases[who];
        if (due > time) {
            wait = due - time < wait ? due - time : wait;
            break;
        }
        observe(&lags, time - due);
        take_turn(&viewers[who]);
        turn++;
    }
    if (churn) {
        due = opened + (uint64_t)((churned + 1) * 1e9 / churn);
        if (due <= time) {
            struct viewer *viewer = &viewers[churned++ % count];
            if (viewer->state >= UPDATE && viewer->state != GONE) {
                close(viewer->fd);
                connect_one(viewer);
            }
            wait = 0;
        } else if (due - time < wait) {
            wait = due - time;
        }
    }
    return wait;
}

static void on_command(void) {
    char line[64];
    if (read(STDIN_FILENO, line, sizeof line) <= 0) exit(0);
    tell_mark();
}

static void usage(void) {
    fprintf(stderr, "usage: player [-w PATH [-H HEADER]] [-n COUNT] [-f FIRST] [-i] [-a] [-j MOST] [-r RATE] [-c | -p | -u BYTES] "
                    "[-k RATE] PORT\n");
    exit(2);
}

static void read_options(int argc, char **argv) {
    int option;
    while ((option = getopt(argc, argv, "w:H:n:f:iaj:r:cpu:k:")) != -1) {
        switch (option) {
            case 'w': path = optarg; break;
            case 'H': header = optarg; break;
            case 'n': count = atoi(optarg); break;
            case 'f': first = atoi(optarg); break;
            case 'i': own_ports = true; break;
            case 'a': own_addresses = true; break;
            case 'j': most_arriving = atoi(optarg); break;
            case 'r': rate = atof(optarg); break;
            case 'c': chases = true; break;
            case 'p': listens = true; break;
            case 'u': up_bytes = strtoul(optarg, NULL, 10); break;
            case 'k': churn = atof(optarg); break;
            default: usage();
        }
    }
    if (optind != argc - 1 || count < 1 || (up_bytes && (up_bytes < 9 || up_bytes > MOST_FRAME - 1))) usage();
    port = atoi(argv[optind]);
}

int main(int argc, char **argv) {
    static unsigned char text[MOST_FRAME];
    struct epoll_event events[EVENTS], command = {.events = EPOLLIN, .data.ptr = NULL};
    struct rlimit files;
    read_options(argc, argv);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_TIMERSLACK, 1000);
    if (up_bytes) { /* ClientCutText, the whole frame */
        memset(text, 'x', sizeof text);
        memcpy(text, "\6\0\0\0\0\0", 6);
        text[6] = (up_bytes - 8) >> 8;
        text[7] = up_bytes - 8;
        up_length = path ? frame(up_frame, 2, text, up_bytes) : up_bytes;
        if (!path) memcpy(up_frame, text, up_bytes);
    }
    if (rate) shuffle_turns();
    viewers = calloc(count, sizeof *viewers);
    if (!viewers) die("calloc");
    for (int i = 0; i < count; i++) viewers[i].index = first + i;
    poller = epoll_create1(0);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &command)) die("epoll_ctl");
    started = now();
    for (;;) {
        if (settled < count) arrive();
        uint64_t wait = take_turns();
        struct timespec limit = {wait / 1000000000, wait % 1000000000};
        int ready = epoll_pwait2(poller, events, EVENTS, &limit, NULL);
        for (int i = 0; i < ready; i++) {
            struct viewer *viewer = events[i].data.ptr;
            if (!viewer) on_command();
            else if (viewer->state == CONNECTING) on_connected(viewer);
            else if (viewer->fd >= 0 && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) on_readable(viewer);
            if (viewer && viewer->fd >= 0 && viewer->state >= UPDATE && viewer->wants_room && up_bytes) pour(viewer);
        }
    }
}
