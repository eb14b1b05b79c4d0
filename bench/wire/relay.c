//go:build ignore

// A byte relay: one thread, one epoll set, one service connection per client
// connection. It copies bytes both ways without reading them, so the CPU time it
// takes per request is the floor for every proxy that is compared with it.
//
//	relay LISTEN_PORT SERVICE_PORT        (both on 127.0.0.1)
//
// Sockets are edge-triggered and registered once; a read that does not fill the
// buffer has emptied the socket (epoll(7)), so a request in the steady state costs
// two reads, two writes and its share of an epoll_wait. A fault of one connection
// closes that pair; a fault of the relay itself ends it with a message.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 16384, EVENTS = 256 };

// A side is one socket of a pair and the bytes read from it that its peer has not
// taken yet: buffer[from..to).
struct side {
	struct pair *pair;
	int fd;
	bool hung_up; // the kernel reported an end or an error: read until it shows
	bool eof;     // read returned 0
	bool closed;  // the end has been passed on to the peer
	size_t from, to;
	char buffer[BUFFER_BYTES];
};

struct pair {
	struct side client, service;
	bool dead;
	struct pair *next; // in the list of dead pairs
};

static int poller;
static struct pair *dead_pairs;
static struct sockaddr_in service_address;

static void fatal(const char *what) {
	perror(what);
	exit(1);
}

static struct sockaddr_in loopback(const char *port) {
	char *end;
	errno = 0;
	long number = strtol(port, &end, 10);
	if (errno != 0 || *port == '\0' || *end != '\0' || number < 1 || number > 65535) {
		fprintf(stderr, "relay: bad port \"%s\"\n", port);
		exit(64);
	}
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)number),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

// bury closes a pair at once and leaves its memory until the current batch of
// events, which may still point to it, has been walked.
static void bury(struct pair *p) {
	close(p->client.fd);
	close(p->service.fd);
	p->dead = true;
	p->next = dead_pairs;
	dead_pairs = p;
}

static void free_dead_pairs(void) {
	while (dead_pairs != NULL) {
		struct pair *p = dead_pairs;
		dead_pairs = p->next;
		free(p);
	}
}

// flush writes what is pending. It returns 1 when nothing is left, 0 when the
// socket takes no more for now (EAGAIN, also while still connecting), -1 on a fault.
static int flush(struct side *in, struct side *out) {
	while (in->from < in->to) {
		ssize_t n = send(out->fd, in->buffer + in->from, in->to - in->from, MSG_NOSIGNAL);
		if (n >= 0) {
			in->from += (size_t)n;
		} else if (errno == EAGAIN) {
			return 0;
		} else if (errno != EINTR) {
			return -1;
		}
	}
	return 1;
}

// pump moves bytes from in to out until in is empty or out is full. It returns
// false when the pair must be closed.
static bool pump(struct side *in, struct side *out) {
	for (bool emptied = false;;) {
		int flushed = flush(in, out);
		if (flushed != 1)
			return flushed == 0;
		if (in->eof) {
			if (!in->closed && shutdown(out->fd, SHUT_WR) != 0)
				return false;
			in->closed = true;
			return true;
		}
		if (emptied && !in->hung_up)
			return true;
		ssize_t n = recv(in->fd, in->buffer, BUFFER_BYTES, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		in->eof = n == 0;
		in->from = 0;
		in->to = (size_t)n;
		emptied = n < BUFFER_BYTES;
	}
}

static bool watch(struct side *s, struct pair *p, int fd) {
	int on = 1;
	struct epoll_event e = {
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.ptr = s,
	};
	s->pair = p;
	s->fd = fd;
	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
	       epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e) == 0;
}

static void open_pair(int client) {
	struct pair *p = calloc(1, sizeof *p);
	int service = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (p == NULL || service < 0)
		fatal("relay: new pair");
	if (connect(service, (struct sockaddr *)&service_address, sizeof service_address) != 0 &&
	    errno != EINPROGRESS) {
		close(client);
		close(service);
		free(p);
		return;
	}
	if (!watch(&p->client, p, client) || !watch(&p->service, p, service))
		fatal("relay: watch");
}

static void accept_all(int listener) {
	for (;;) {
		int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client >= 0)
			open_pair(client);
		else if (errno == EAGAIN)
			return;
		else if (errno != EINTR && errno != ECONNABORTED)
			fatal("relay: accept");
	}
}

static void handle(struct side *s, uint32_t events) {
	struct pair *p = s->pair;
	struct side *peer = s == &p->client ? &p->service : &p->client;
	if (p->dead)
		return;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		s->hung_up = true;
	bool alive = true;
	if ((events & EPOLLIN) || s->hung_up)
		alive = pump(s, peer);
	if (alive && (events & EPOLLOUT) && peer->from < peer->to)
		alive = pump(peer, s);
	if (!alive || (s->closed && peer->closed))
		bury(p);
}

static int listen_on(struct sockaddr_in address) {
	int on = 1;
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
	    listen(fd, SOMAXCONN) != 0 || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e) != 0)
		fatal("relay: listen");
	return fd;
}

int main(int argc, char **argv) {
	struct epoll_event events[EVENTS];
	if (argc != 3) {
		fprintf(stderr, "usage: relay LISTEN_PORT SERVICE_PORT\n");
		return 64;
	}
	service_address = loopback(argv[2]);
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (poller < 0)
		fatal("relay: epoll_create1");
	int listener = listen_on(loopback(argv[1]));
	for (;;) {
		int n = epoll_wait(poller, events, EVENTS, -1);
		if (n < 0 && errno != EINTR)
			fatal("relay: epoll_wait");
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == NULL)
				accept_all(listener);
			else
				handle(events[i].data.ptr, events[i].events);
		}
		free_dead_pairs();
	}
}
