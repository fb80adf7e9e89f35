/* Desktops for a benchmark: RFB 3.8 (RFC 6143) with security None, all in one process.
 *
 *     desktop [-s BYTES] [-b] [-m FILE] PORT [COUNT]
 *
 * Listens on COUNT (1) ports of 127.0.0.1 from PORT on; each connection is a desktop. An update is one Raw rectangle whose
 * pixels are BYTES (8192), less at most a row; its first eight bytes are the time at which it was sent (CLOCK_MONOTONIC,
 * nanoseconds, this machine's order).
 *
 *   as it is   every FramebufferUpdateRequest is answered with an update at once
 *   -b         after the first request updates are poured out as fast as they are taken
 *   -m FILE    a request is answered when the recording has something new. FILE has a line `MILLISECONDS BYTES` for each
 *              update, the time since the one before, and an empty line between two recordings; desktops take them in turn
 *
 * What else the client sends (keys, clipboard) is swallowed. The line `mark` on standard input is answered with counters
 * since the line before, as JSON; the end of standard input ends it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
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
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 1920, HEIGHT = 1080, BUFFER = 256 * 1024, EVENTS = 256, BACKLOG = 4096, TRACKS = 16 };

enum state { VERSION, SECURITY, INIT, NORMAL };

struct step {
    uint64_t delay; /* nanoseconds since the step before */
    size_t bytes;
};

struct desktop {
    int fd;
    enum state state;
    bool listens, wants_room;
    bool wanted; /* asked, and nothing was new (recordings) */
    unsigned pixel; /* bytes */
    unsigned char head[24];
    size_t have;  /* bytes of `head` */
    size_t skip;  /* bytes of a message that are still to be swallowed */
    int pending;  /* updates asked for and not begun */
    unsigned char out[24]; /* head of the update that is being sent, with the time */
    size_t out_length, out_sent, pixels_left;
    int track;
    size_t step;
    uint64_t due;
    struct desktop *next, **link; /* all desktops that replay */
};

static struct step *tracks[TRACKS];
static size_t lengths[TRACKS];
static int track_count;
static size_t update_size = 8192;
static bool pours;
static int poller, arrivals;
static struct desktop *replaying;
static unsigned char pixels[WIDTH * HEIGHT * 4];
static struct { uint64_t connections, asked, updates, in, out; } count;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + time.tv_nsec;
}

static void put16(unsigned char *to, unsigned value) {
    to[0] = value >> 8;
    to[1] = value;
}

static unsigned get16(const unsigned char *from) { return from[0] << 8 | from[1]; }

static int32_t get32(const unsigned char *from) { return (int32_t)((uint32_t)get16(from) << 16 | get16(from + 2)); }

static void hang_up(struct desktop *desktop) {
    close(desktop->fd);
    if (desktop->link) {
        *desktop->link = desktop->next;
        if (desktop->next) desktop->next->link = desktop->link;
    }
    free(desktop);
    count.connections--;
}

static void watch(struct desktop *desktop, bool wants_room) {
    struct epoll_event event = {.events = EPOLLIN | (wants_room ? EPOLLOUT : 0u), .data.ptr = desktop};
    if (desktop->wants_room == wants_room) return;
    desktop->wants_room = wants_room;
    if (epoll_ctl(poller, EPOLL_CTL_MOD, desktop->fd, &event)) die("epoll_ctl");
}

/* ---- what a desktop sends */

/* Section 7.6.1: the head of an update with one Raw rectangle of about `bytes`. */
static void begin_update(struct desktop *desktop, size_t bytes) {
    size_t area = bytes / desktop->pixel ? bytes / desktop->pixel : 1;
    if (area > WIDTH * HEIGHT) area = WIDTH * HEIGHT;
    unsigned height = (area + WIDTH - 1) / WIDTH, width = area / height;
    uint64_t stamp = now();
    memset(desktop->out, 0, 16);
    desktop->out[3] = 1; /* rectangles */
    put16(desktop->out + 8, width);
    put16(desktop->out + 10, height);
    bytes = (size_t)width * height * desktop->pixel;
    size_t stamped = bytes < sizeof stamp ? bytes : sizeof stamp;
    memcpy(desktop->out + 16, &stamp, stamped);
    desktop->out_length = 16 + stamped;
    desktop->out_sent = 0;
    desktop->pixels_left = bytes - stamped;
    count.updates++;
}

/* False when the connection is gone. */
static bool pour(struct desktop *desktop) {
    for (int rounds = 0; rounds < 16; rounds++) {
        if (desktop->out_sent == desktop->out_length && !desktop->pixels_left) {
            if (!desktop->pending) break;
            if (!pours) desktop->pending--;
            begin_update(desktop, track_count ? tracks[desktop->track][desktop->step].bytes : update_size);
        }
        struct iovec parts[2] = {{desktop->out + desktop->out_sent, desktop->out_length - desktop->out_sent},
                                 {pixels, desktop->pixels_left}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        ssize_t sent = sendmsg(desktop->fd, &message, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN) break;
            hang_up(desktop);
            return false;
        }
        count.out += sent;
        size_t of_head = (size_t)sent < parts[0].iov_len ? (size_t)sent : parts[0].iov_len;
        desktop->out_sent += of_head;
        desktop->pixels_left -= sent - of_head;
    }
    watch(desktop, desktop->pixels_left || desktop->out_sent < desktop->out_length || desktop->pending);
    return true;
}

static bool say(struct desktop *desktop, const void *data, size_t length) {
    return send(desktop->fd, data, length, MSG_NOSIGNAL) == (ssize_t)length; /* a few bytes on a new connection */
}

static bool send_init(struct desktop *desktop) {
    unsigned char init[31] = {0};
    put16(init, WIDTH);
    put16(init + 2, HEIGHT);
    memcpy(init + 4, "\x20\x18\x00\x01\x00\xff\x00\xff\x00\xff\x10\x08\x00", 13); /* 32 bits, little-endian RGB */
    init[23] = 7;
    memcpy(init + 24, "desktop", 7);
    return say(desktop, init, sizeof init);
}

/* ---- what a desktop is sent */

static size_t needed(const struct desktop *desktop) {
    static const unsigned char of_login[] = {[VERSION] = 12, [SECURITY] = 1, [INIT] = 1};
    if (desktop->state != NORMAL) return of_login[desktop->state];
    if (!desktop->have) return 1;
    switch (desktop->head[0]) {
        case 0: return 20;           /* SetPixelFormat */
        case 2: return 4;            /* SetEncodings */
        case 3: return 10;           /* FramebufferUpdateRequest */
        case 5: return 6;            /* PointerEvent */
        case 150: return 10;         /* EnableContinuousUpdates */
        case 248: return 9;          /* ClientFence */
        case 255: return 12;         /* QEMU */
        default: return 8;           /* KeyEvent, ClientCutText, SetDesktopSize */
    }
}

/* False when it is no RFB. */
static bool on_message(struct desktop *desktop) {
    const unsigned char *head = desktop->head;
    switch (desktop->state) {
        case VERSION:
            desktop->state = SECURITY;
            return !memcmp(head, "RFB 003.", 8) && say(desktop, "\1\1", 2);
        case SECURITY:
            desktop->state = INIT;
            return head[0] == 1 && say(desktop, "\0\0\0", 4);
        case INIT:
            desktop->state = NORMAL;
            return send_init(desktop);
        case NORMAL:
            break;
    }
    switch (head[0]) {
        case 0:
            desktop->pixel = head[4] / 8;
            return desktop->pixel == 1 || desktop->pixel == 2 || desktop->pixel == 4;
        case 2:
            desktop->skip = 4 * get16(head + 2);
            return true;
        case 3:
            count.asked++;
            if (track_count) desktop->wanted = true;
            else desktop->pending++;
            return true;
        case 6:
            desktop->skip = labs((long)get32(head + 4));
            return true;
        case 248:
            desktop->skip = head[8];
            return true;
        case 251:
            desktop->skip = 16 * head[6];
            return true;
        default:
            return head[0] == 4 || head[0] == 5 || head[0] == 150 || head[0] == 255;
    }
}

/* False when the connection is gone. */
static bool digest(struct desktop *desktop, const unsigned char *data, size_t length) {
    while (length) {
        if (desktop->skip) {
            size_t part = length < desktop->skip ? length : desktop->skip;
            desktop->skip -= part;
            data += part;
            length -= part;
            continue;
        }
        size_t need = needed(desktop);
        while (length && desktop->have < need) {
            desktop->head[desktop->have++] = *data++;
            length--;
            need = needed(desktop);
        }
        if (desktop->have < need) break;
        if (!on_message(desktop)) {
            hang_up(desktop);
            return false;
        }
        desktop->have = 0;
    }
    return true;
}

static void on_readable(struct desktop *desktop) {
    static unsigned char buffer[BUFFER];
    ssize_t got = recv(desktop->fd, buffer, BUFFER, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return hang_up(desktop);
    count.in += got;
    if (digest(desktop, buffer, got) && desktop->pending) pour(desktop);
}

static void on_connection(struct desktop *listener) {
    for (;;) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK), yes = 1;
        if (fd < 0) return;
        struct desktop *desktop = calloc(1, sizeof *desktop);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = desktop};
        if (!desktop) die("calloc");
        desktop->fd = fd;
        desktop->pixel = 4;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
        count.connections++;
        if (track_count) { /* each a recording, and a place in it, of its own */
            desktop->track = arrivals % track_count;
            desktop->step = (size_t)arrivals * 7919 % lengths[desktop->track];
            desktop->due = now();
            desktop->link = &replaying;
            desktop->next = replaying;
            if (replaying) replaying->link = &desktop->next;
            replaying = desktop;
        }
        arrivals++;
        if (!say(desktop, "RFB 003.008\n", 12)) hang_up(desktop);
    }
}

/* ---- recordings */

static void load(const char *name) {
    FILE *file = fopen(name, "r");
    char line[64];
    double delay;
    size_t bytes;
    if (!file) die(name);
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%lf %zu", &delay, &bytes) != 2) {
            if (lengths[track_count] && track_count < TRACKS - 1) track_count++;
            continue;
        }
        size_t length = lengths[track_count]++;
        tracks[track_count] = realloc(tracks[track_count], (length + 1) * sizeof(struct step));
        if (!tracks[track_count]) die("realloc");
        tracks[track_count][length] = (struct step){delay * 1e6, bytes > 16 ? bytes - 16 : 1};
    }
    if (lengths[track_count]) track_count++;
    fclose(file);
    if (!track_count) exit(2);
}

/* Send what has become new; returns the nanoseconds until something else does, at most a second. */
static uint64_t replay(void) {
    uint64_t time = now(), wait = 1000000000;
    for (struct desktop *desktop = replaying, *next; desktop; desktop = next) {
        next = desktop->next;
        if (!desktop->wanted) continue;
        if (desktop->due <= time) {
            desktop->wanted = false;
            desktop->pending = 1;
            if (!pour(desktop)) continue;
            desktop->step = (desktop->step + 1) % lengths[desktop->track];
            desktop->due = time + tracks[desktop->track][desktop->step].delay;
        } else if (desktop->due - time < wait) {
            wait = desktop->due - time;
        }
    }
    return wait;
}

/* ---- all together */

static void on_command(void) {
    char line[64];
    ssize_t got = read(STDIN_FILENO, line, sizeof line);
    if (got <= 0) exit(0);
    printf("{\"connections\": %lu, \"asked\": %lu, \"updates\": %lu, \"in\": %lu, \"out\": %lu}\n", count.connections,
           count.asked, count.updates, count.in, count.out);
    fflush(stdout);
    count.asked = count.updates = count.in = count.out = 0;
}

static void listen_on(int port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct desktop *listener = calloc(1, sizeof *listener);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = listener};
    int yes = 1;
    if (!listener) die("calloc");
    listener->listens = true;
    listener->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener->fd, (struct sockaddr *)&address, sizeof address) || listen(listener->fd, BACKLOG)) die("listen");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listener->fd, &event)) die("epoll_ctl");
}

int main(int argc, char **argv) {
    struct epoll_event events[EVENTS], command = {.events = EPOLLIN, .data.ptr = NULL};
    struct rlimit files;
    int option;
    while ((option = getopt(argc, argv, "s:bm:")) != -1) {
        if (option == 's') update_size = strtoul(optarg, NULL, 10);
        else if (option == 'b') pours = true;
        else if (option == 'm') load(optarg);
        else return 2;
    }
    if (optind >= argc) {
        fprintf(stderr, "usage: desktop [-s BYTES] [-b] [-m FILE] PORT [COUNT]\n");
        return 2;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_TIMERSLACK, 1000);
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = i * 2654435761u >> 13;
    poller = epoll_create1(0);
    for (int i = 0; i < (argc > optind + 1 ? atoi(argv[optind + 1]) : 1); i++) listen_on(atoi(argv[optind]) + i);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &command)) die("epoll_ctl");
    printf("{\"event\": \"listening\"}\n");
    fflush(stdout);
    for (;;) {
        uint64_t wait = replay();
        struct timespec limit = {wait / 1000000000, wait % 1000000000};
        int ready = epoll_pwait2(poller, events, EVENTS, &limit, NULL);
        for (int i = 0; i < ready; i++) {
            struct desktop *desktop = events[i].data.ptr;
            if (!desktop) on_command();
            else if (desktop->listens) on_connection(desktop);
            else if (events[i].events & EPOLLOUT && !pour(desktop)) continue; /* it is gone */
            else if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) on_readable(desktop);
        }
    }
}
