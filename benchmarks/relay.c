/* The limit: a relay that receives and sends, and does nothing else. No websocket, no log, no account.
 *
 *     relay LISTEN TARGET [COUNT]
 *
 * Port LISTEN+i of 127.0.0.1 leads to port TARGET+i of 127.0.0.1, for i below COUNT (1). One thread, epoll, one buffer of
 * 256 KiB that all connections share. What a slow reader does not take is kept, and its other side is not read until it is
 * gone; an end of file is passed on (half-close). Ends with SIGTERM.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 256 * 1024, EVENTS = 256, BACKLOG = 4096 };

/* One side of a connection, or a listening socket (then `target` is where its connections lead). */
struct side {
    int fd;
    int target;
    uint32_t interest;
    bool connecting, ended; /* ended: it sent its end of file */
    struct side *other;
    char *waiting; /* what it has not taken yet */
    size_t offset, length;
    struct side *next_dead;
};

static int poller;
static struct side *dead; /* freed after a batch of events: a later event of the batch may be the other side's */
static char buffer[BUFFER];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void watch(struct side *side, uint32_t interest) {
    struct epoll_event event = {.events = interest, .data.ptr = side};
    if (interest == side->interest) return;
    side->interest = interest;
    if (epoll_ctl(poller, EPOLL_CTL_MOD, side->fd, &event)) die("epoll_ctl");
}

/* Read a side while the other has taken everything; ask for room where it has not. */
static void settle(struct side *side) {
    bool reads = !side->ended && !side->connecting && !side->other->connecting && !side->other->waiting;
    watch(side, (reads ? EPOLLIN : 0u) | (side->waiting || side->connecting ? EPOLLOUT : 0u));
}

static void finish(struct side *side) {
    struct side *sides[] = {side, side->other};
    if (side->fd < 0) return;
    for (int i = 0; i < 2; i++) {
        close(sides[i]->fd);
        sides[i]->fd = -1;
        sides[i]->next_dead = dead;
        dead = sides[i];
    }
}

static void pass_on_end(struct side *to) {
    if (to->other->ended && !to->waiting) shutdown(to->fd, SHUT_WR);
    if (to->ended && to->other->ended && !to->waiting && !to->other->waiting) finish(to);
}

static void keep(struct side *side, const char *data, size_t length) {
    side->waiting = malloc(length);
    if (!side->waiting) die("malloc");
    memcpy(side->waiting, data, length);
    side->offset = 0;
    side->length = length;
}

static void on_readable(struct side *from) {
    struct side *to = from->other;
    ssize_t got = recv(from->fd, buffer, BUFFER, 0);
    if (got < 0) {
        if (errno != EAGAIN && errno != EINTR) finish(from);
        return;
    }
    if (got == 0) {
        from->ended = true;
        pass_on_end(to);
    } else {
        ssize_t sent = send(to->fd, buffer, got, MSG_NOSIGNAL);
        if (sent == got) return; /* nothing changed: the way of nearly every update */
        if (sent < 0 && errno != EAGAIN && errno != EINTR) return finish(from);
        sent = sent < 0 ? 0 : sent;
        keep(to, buffer + sent, got - sent);
    }
    if (from->fd >= 0) {
        settle(from);
        settle(to);
    }
}

static void on_writable(struct side *side) {
    if (side->connecting) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(side->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) return finish(side);
        side->connecting = false;
    } else if (side->waiting) {
        ssize_t sent = send(side->fd, side->waiting + side->offset, side->length - side->offset, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN && errno != EINTR) finish(side);
            return;
        }
        side->offset += sent;
        if (side->offset < side->length) return;
        free(side->waiting);
        side->waiting = NULL;
        pass_on_end(side);
    }
    if (side->fd >= 0) {
        settle(side);
        settle(side->other);
    }
}

static struct side *new_side(int fd, bool connecting) {
    struct side *side = calloc(1, sizeof *side);
    struct epoll_event event = {.events = 0, .data.ptr = side};
    int yes = 1;
    if (!side) die("calloc");
    side->fd = fd;
    side->connecting = connecting;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    return side;
}

static void on_connection(struct side *listener) {
    for (;;) {
        struct sockaddr_in address = loopback(listener->target);
        int client = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK);
        if (client < 0) return;
        int server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (server < 0) die("socket");
        if (connect(server, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) {
            close(client);
            close(server);
            continue;
        }
        struct side *near = new_side(client, false), *far = new_side(server, true);
        near->other = far;
        far->other = near;
        settle(near);
        settle(far);
    }
}

static void listen_on(int port, int target) {
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, BACKLOG)) die("listen");
    struct side *listener = new_side(fd, false);
    listener->target = target;
    watch(listener, EPOLLIN);
}

int main(int argc, char **argv) {
    struct epoll_event events[EVENTS];
    struct rlimit files;
    int count = argc > 3 ? atoi(argv[3]) : 1;
    if (argc < 3) {
        fprintf(stderr, "usage: relay LISTEN TARGET [COUNT]\n");
        return 2;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(0);
    for (int i = 0; i < count; i++) listen_on(atoi(argv[1]) + i, atoi(argv[2]) + i);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct side *side = events[i].data.ptr;
            uint32_t what = events[i].events;
            if (side->target) {
                on_connection(side);
                continue;
            }
            if (side->fd >= 0 && what & (EPOLLOUT | EPOLLERR)) on_writable(side);
            if (side->fd >= 0 && what & EPOLLIN) on_readable(side);
            if (side->fd >= 0 && (what & EPOLLERR || (what & EPOLLHUP && !(what & EPOLLIN)))) finish(side);
        }
        while (dead) {
            struct side *gone = dead;
            dead = gone->next_dead;
            free(gone->waiting);
            free(gone);
        }
    }
}
