//go:build ignore

// A responder: one thread, one epoll set, keep-alive connections. It sends the same
// bytes for every request without looking at it further than for the blank line that
// ends it, so the CPU time it takes per request is the floor for every program that
// answers by itself, from a cache or otherwise.
//
//	responder LISTEN_PORT ANSWER_FILE        (on 127.0.0.1; the file is head and body)
//
// A request has no body here: the generator's have none. Sockets are edge-triggered
// and registered once; a read that does not fill the buffer has emptied the socket
// (epoll(7)), so a request in the steady state costs one read, one write and its share
// of an epoll_wait. A fault of one connection closes it; a fault of the responder
// itself ends it with a message.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 16384, ANSWER_BYTES_MAX = 1 << 20, EVENTS = 256 };

// A client is one connection. Nothing of a request is kept but how far into a blank
// line its bytes have come, so requests may be cut anywhere.
struct client {
	int fd;
	bool hung_up;   // the kernel reported an end or an error: read until it shows
	size_t matched; // bytes of BLANK_LINE that the last bytes read are
	size_t owed;    // answers not yet sent in full
	size_t sent;    // bytes of the first of them that are sent
};

static const char BLANK_LINE[] = "\r\n\r\n";

static int poller;
static char answer[ANSWER_BYTES_MAX];
static size_t answer_bytes;

static void fatal(const char *what) {
	perror(what);
	exit(1);
}

static struct sockaddr_in loopback(const char *port) {
	char *end;
	errno = 0;
	long number = strtol(port, &end, 10);
	if (errno != 0 || *port == '\0' || *end != '\0' || number < 1 || number > 65535) {
		fprintf(stderr, "responder: bad port \"%s\"\n", port);
		exit(64);
	}
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)number),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static void read_answer(const char *path) {
	FILE *f = fopen(path, "rb");
	if (f == NULL)
		fatal(path);
	answer_bytes = fread(answer, 1, sizeof answer, f);
	if (ferror(f))
		fatal(path);
	if (answer_bytes == 0 || answer_bytes == sizeof answer) {
		fprintf(stderr, "responder: %s: want 1 to %d bytes\n", path, ANSWER_BYTES_MAX - 1);
		exit(1);
	}
	fclose(f);
}

// count_requests adds to what is owed an answer for each blank line that ends in the
// n bytes at p.
static void count_requests(struct client *c, const char *p, size_t n) {
	const char *end = p + n;
	while (p < end) {
		// Fast path: on to the next end of a line.
		if (c->matched == 0 && (p = memchr(p, BLANK_LINE[0], (size_t)(end - p))) == NULL)
			return;
		if (*p == BLANK_LINE[c->matched])
			c->matched++;
		else
			c->matched = *p == BLANK_LINE[0];
		if (c->matched == sizeof BLANK_LINE - 1) {
			c->matched = 0;
			c->owed++;
		}
		p++;
	}
}

// pay sends what is owed. It returns 1 when nothing is left, 0 when the socket takes
// no more for now, -1 on a fault.
static int pay(struct client *c) {
	while (c->owed > 0) {
		ssize_t n = send(c->fd, answer + c->sent, answer_bytes - c->sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		c->sent += (size_t)n;
		if (c->sent == answer_bytes) {
			c->sent = 0;
			c->owed--;
		}
	}
	return 1;
}

// serve reads and answers until the socket is empty or takes no more answers; then the
// client is not read, so what it is owed stays small. It returns false when the
// connection must be closed.
static bool serve(struct client *c) {
	static char buffer[BUFFER_BYTES];
	for (bool emptied = false;;) {
		int paid = pay(c);
		if (paid != 1)
			return paid == 0;
		if (emptied && !c->hung_up)
			return true;
		ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		if (n == 0)
			return false;
		count_requests(c, buffer, (size_t)n);
		emptied = n < BUFFER_BYTES;
	}
}

static void open_client(int fd) {
	int on = 1;
	struct client *c = calloc(1, sizeof *c);
	struct epoll_event e = {
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.ptr = c,
	};
	if (c == NULL)
		fatal("responder: new client");
	c->fd = fd;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
	    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e) != 0)
		fatal("responder: watch");
}

static void accept_all(int listener) {
	for (;;) {
		int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client >= 0)
			open_client(client);
		else if (errno == EAGAIN)
			return;
		else if (errno != EINTR && errno != ECONNABORTED)
			fatal("responder: accept");
	}
}

// handle may free the client at once: it has one socket, so no other event of the
// batch points to it.
static void handle(struct client *c, uint32_t events) {
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->hung_up = true;
	if (serve(c))
		return;
	close(c->fd);
	free(c);
}

static int listen_on(struct sockaddr_in address) {
	int on = 1;
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
	    listen(fd, SOMAXCONN) != 0 || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e) != 0)
		fatal("responder: listen");
	return fd;
}

int main(int argc, char **argv) {
	struct epoll_event events[EVENTS];
	if (argc != 3) {
		fprintf(stderr, "usage: responder LISTEN_PORT ANSWER_FILE\n");
		return 64;
	}
	read_answer(argv[2]);
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (poller < 0)
		fatal("responder: epoll_create1");
	int listener = listen_on(loopback(argv[1]));
	for (;;) {
		int n = epoll_wait(poller, events, EVENTS, -1);
		if (n < 0 && errno != EINTR)
			fatal("responder: epoll_wait");
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == NULL)
				accept_all(listener);
			else
				handle(events[i].data.ptr, events[i].events);
		}
	}
}
