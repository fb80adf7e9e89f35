/* An experiment: what a websocket's header costs a relay that copies, because it puts the payload out of step.
 *
 *     cc -O2 -o /tmp/align benchmarks/align.c && for i in 1 2 3 4 5; do /tmp/align; done
 *
 * A source pours through a relay loop into a sink over TCP on one machine; the relay has the first core, the others share
 * the second. The kernel copies what is sent into pages that the sending thread fills one after another
 * (sk_page_frag_refill() in net/core/sock.c), so that a header of ten bytes moves all that follows: source and destination
 * of the copy are then at different places in their pages, and on some processors such a copy takes far longer. The loop
 * `in step` receives to the place in its page at which the kernel will put the payload down. Each line is CPU s per GiB.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 256 * 1024, PAGE = 4096 };

static char memory[BUFFER + PAGE] __attribute__((aligned(PAGE)));

static double clock_of(clockid_t which) {
    struct timespec time;
    clock_gettime(which, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void pin(int core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    sched_setaffinity(0, sizeof cores, &cores);
}

static void connect_pair(int ends[2]) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1)) exit(1);
    getsockname(listener, (struct sockaddr *)&address, &size);
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(ends[0], (struct sockaddr *)&address, size)) exit(1);
    ends[1] = accept(listener, NULL, NULL);
    close(listener);
    for (int i = 0; i < 2; i++) setsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static pid_t start(int fd, bool pours) {
    pid_t child = fork();
    if (child) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin(1);
    while ((pours ? send(fd, memory, BUFFER, MSG_NOSIGNAL) : recv(fd, memory, BUFFER, 0)) > 0) continue;
    _exit(0);
}

static void send_all(int fd, size_t header, char *data, size_t length) {
    static char zeros[16];
    struct iovec parts[2] = {{zeros, header}, {data, length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    while (parts[0].iov_len + parts[1].iov_len) {
        ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (sent < 0) exit(1);
        size_t of_header = (size_t)sent < parts[0].iov_len ? (size_t)sent : parts[0].iov_len;
        parts[0].iov_len -= of_header;
        parts[1].iov_base = (char *)parts[1].iov_base + (sent - of_header);
        parts[1].iov_len -= sent - of_header;
    }
}

static void relay(const char *what, size_t header, bool in_step) {
    int up[2], down[2];
    uint64_t sent = 0, passed = 0;
    connect_pair(up);
    connect_pair(down);
    pid_t source = start(up[0], true), sink = start(down[1], false);
    double end = clock_of(CLOCK_MONOTONIC) + 1, cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    while (clock_of(CLOCK_MONOTONIC) < end) {
        char *place = memory + (in_step ? (sent + header) % PAGE : 0);
        ssize_t got = recv(up[1], place, BUFFER, 0);
        if (got <= 0) exit(1);
        send_all(down[0], header, place, got);
        sent += header + got;
        passed += got;
    }
    printf("%-28s %.3f\n", what, (clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu) / (passed / 1073741824.0));
    kill(source, SIGKILL);
    kill(sink, SIGKILL);
    while (wait(NULL) > 0) continue;
    for (int i = 0; i < 2; i++) {
        close(up[i]);
        close(down[i]);
    }
}

int main(void) {
    pin(0);
    relay("no header", 0, false);
    relay("header of 10 bytes", 10, false);
    relay("header of 10 bytes, in step", 10, true);
    return 0;
}
