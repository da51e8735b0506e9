// SPDX-License-Identifier: Apache-2.0
/* The API server: ten connections, each with its parser; requests are served one after the other. */
#include "api/server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/counts.h"
#include "api/http.h"
#include "api/json_words.h"
#include "api/log.h"
#include "api/metrics.h"
#include "common/fail.h"
#include "monitor/confine/confine.h"
#include "monitor/core/thread.h"

#define LINE_BYTES 1024u
#define READ_BYTES 8192u
#define BACKLOG 128
#define REST_MS 100 /* after a connection could not be taken, until that is tried again */

struct connection {
	int fd; /* -1: free */
	struct http_parser *parser;
	char *output; /* what the client has not taken yet */
	size_t output_bytes, sent;
	bool blocked; /* waits for room, and is not read meanwhile */
};

struct server {
	int listener, epoll;
	uint64_t body_bytes;
	struct channel *channel;
	bool unconfined;
	bool resting; /* the listener is not watched: there was no descriptor or memory for its next connection */
	struct connection connections[SERVER_CONNECTIONS];
	uint8_t buffer[READ_BYTES];
};

static void watch(struct server *s, struct connection *c)
{
	struct epoll_event event = {.events = c->blocked ? EPOLLOUT : EPOLLIN,
				    .data.u32 = (uint32_t)(c - s->connections)};

	epoll_ctl(s->epoll, EPOLL_CTL_MOD, c->fd, &event);
}

/* A connection that cannot be taken stays in the backlog, and would make each epoll_wait() return at once. */
static void watch_listener(struct server *s, bool watched)
{
	struct epoll_event event = {.events = watched ? EPOLLIN : 0, .data.u32 = SERVER_CONNECTIONS};

	if (!epoll_ctl(s->epoll, EPOLL_CTL_MOD, s->listener, &event))
		s->resting = !watched;
}

static void hang_up(struct connection *c)
{
	close(c->fd);
	http_parser_destroy(c->parser);
	free(c->output);
	*c = (struct connection){.fd = -1};
}

/* Sends what there is; false: the client is gone. */
static bool send_output(struct server *s, struct connection *c)
{
	while (c->sent < c->output_bytes) {
		ssize_t count = send(c->fd, c->output + c->sent, c->output_bytes - c->sent, MSG_NOSIGNAL);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno == EAGAIN) {
			if (!c->blocked) {
				c->blocked = true;
				watch(s, c);
			}
			return true;
		}
		if (count <= 0)
			return false;
		c->sent += (size_t)count;
	}
	free(c->output);
	c->output = NULL;
	c->output_bytes = c->sent = 0;
	if (c->blocked) {
		c->blocked = false;
		watch(s, c);
	}
	return true;
}

static bool add_output(struct connection *c, const char *bytes, size_t count)
{
	char *output = realloc(c->output, c->output_bytes + count);

	if (!output)
		return !count;
	memcpy(output + c->output_bytes, bytes, count);
	c->output = output;
	c->output_bytes += count;
	return true;
}

static bool add_response(struct connection *c, unsigned status, bool deprecated, const char *body)
{
	const struct http_response response = {.status = status,
					       .minor = 1,
					       .server = "Firecracker API",
					       .headers = deprecated ? "Deprecation: true\r\n" : NULL,
					       .body_bytes = body ? strlen(body) : 0};
	char head[400];
	size_t bytes = http_response_head(&response, head, sizeof head);

	return bytes < sizeof head && add_output(c, head, bytes) && (!body || add_output(c, body, response.body_bytes));
}

static const char *status_words(unsigned status)
{
	return status == 200   ? "200 OK"
	       : status == 204 ? "204 No Content"
	       : status == 413 ? "413 Payload too large"
			       : "400 Bad Request";
}

static void log_request(const struct http_request *r)
{
	static const char *const names[] = {
	    [HTTP_GET] = "Get", [HTTP_PUT] = "Put", [HTTP_PATCH] = "Patch", [HTTP_DELETE] = "Delete"};
	char *path, *shown = NULL;

	if (!log_wants(LOG_INFO, "firecracker::api_server"))
		return;
	path = json_quoted(r->path, strlen(r->path));
	if (!path)
		return;
	if (!r->body_bytes || !strcmp(r->path, "/mmds"))
		log_always(LOG_INFO, "firecracker::api_server", "The API server received a %s request on %s.",
			   names[r->method], path);
	else if (!strcmp(r->path, "/cpu-config") && !log_wants(LOG_DEBUG, "firecracker::api_server"))
		log_always(LOG_INFO, "firecracker::api_server",
			   "The API server received a %s request on %s. To view the CPU template received by the "
			   "API, configure log-level to DEBUG.",
			   names[r->method], path);
	else {
		shown = json_quoted((const char *)r->body, r->body_bytes);
		log_always(LOG_INFO, "firecracker::api_server",
			   "The API server received a %s request on %s with body %s.", names[r->method], path,
			   shown ? shown : "");
		free(shown);
	}
	free(path);
}

static void log_reply(const struct reply *reply)
{
	if (reply->status < 300)
		log_always(LOG_INFO, "firecracker::api_server",
			   "The request was executed successfully. Status code: %s.", status_words(reply->status));
	else
		log_always(LOG_ERROR, "firecracker::api_server", "Received Error. Status code: %s. Message: %s",
			   status_words(reply->status), reply->body ? reply->body : "");
}

static bool serve(struct server *s, struct connection *c)
{
	const struct http_request *request = http_parser_request(c->parser);
	struct action action;
	struct reply reply = {0};
	char *text;
	bool good, understood;
	uint64_t begun = counts_clock_us();

	log_request(request);
	understood = router_parse(request, &action, &reply);
	counts_request(request, understood);
	if (understood) {
		const bool diff =
		    action.kind == ACTION_SNAPSHOT_CREATE && action.u.snapshot_create.snapshot_type == SNAPSHOT_DIFF;

		channel_ask(s->channel, &action, &reply);
		counts_answered(action.kind, diff, begun, &reply);
		arena_free(&action.arena);
	}
	if (reply.deprecated)
		metrics_count(METRIC(deprecated_api, deprecated_http_api_calls));
	log_reply(&reply);
	log_always(LOG_INFO, "firecracker::api_server", "Total previous API call duration: %llu us.",
		   (unsigned long long)(counts_clock_us() - begun));
	text = reply_text(&reply);
	good = add_response(c, reply.status, reply.deprecated, text);
	free(text);
	reply_free(&reply);
	return good;
}

/* In Firecracker's words, and with its raw line feed, which is not JSON. */
static bool refuse(struct connection *c)
{
	static const char after[] = "\nAll previous unanswered requests will be dropped.\" }";
	char *body;
	bool good;

	if (asprintf(&body, "{ \"error\": \"%s%s", http_parser_error(c->parser), after) < 0)
		return false;
	good = add_response(c, 400, false, body);
	free(body);
	return good;
}

/* Answers all that is complete; false: the connection is of no use any more. */
static bool serve_all(struct server *s, struct connection *c)
{
	for (;;) {
		bool good = true;

		switch (http_next(c->parser)) {
		case HTTP_NOTHING:
			return true;
		case HTTP_REQUEST:
			good = serve(s, c);
			break;
		case HTTP_CONTINUE:
			good = add_response(c, 100, false, NULL);
			break;
		case HTTP_BAD:
			good = refuse(c);
			break;
		case HTTP_FAILED:
			return false;
		}
		/* each answer is sent before the next request is served: the client may wait for it */
		if (good && !c->blocked)
			good = send_output(s, c);
		channel_sent(s->channel);
		if (!good)
			return false;
	}
}

static void read_from(struct server *s, struct connection *c)
{
	ssize_t count = recv(c->fd, s->buffer, sizeof s->buffer, 0);

	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (count <= 0) {
		hang_up(c);
		return;
	}
	http_feed(c->parser, s->buffer, (size_t)count);
	if (!serve_all(s, c))
		hang_up(c);
}

static void refuse_connection(int fd)
{
	static const char full[] = "HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\n"
				   "Content-Length: 40\r\n\r\n{ \"error\": \"Too many open connections\" }";

	send(fd, full, sizeof full - 1, MSG_NOSIGNAL);
	close(fd);
}

static void accept_one(struct server *s)
{
	const struct http_limits limits = {.line_bytes = LINE_BYTES, .body_bytes = s->body_bytes};
	int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct connection *c = s->connections;
	struct epoll_event event = {.events = EPOLLIN};

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			watch_listener(s, false);
		return;
	}
	while (c < s->connections + SERVER_CONNECTIONS && c->fd >= 0)
		c++;
	if (c == s->connections + SERVER_CONNECTIONS) {
		refuse_connection(fd);
		return;
	}
	event.data.u32 = (uint32_t)(c - s->connections);
	c->parser = http_parser_new(&limits);
	if (!c->parser || epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event)) {
		http_parser_destroy(c->parser);
		c->parser = NULL;
		close(fd);
		return;
	}
	c->fd = fd;
}

static void handle_event(struct server *s, const struct epoll_event *event)
{
	struct connection *c = &s->connections[event->data.u32 % SERVER_CONNECTIONS];

	if (event->data.u32 == SERVER_CONNECTIONS) {
		accept_one(s);
		return;
	}
	if (c->fd < 0)
		return;
	if (c->blocked) {
		if (!send_output(s, c))
			hang_up(c);
	} else {
		read_from(s, c);
	}
}

static void *run(void *opaque)
{
	struct server *s = opaque;
	struct riffle_error error;

	thread_set_name("fc_api");
	if (!s->unconfined && confine_thread(CONFINE_API, &error))
		log_always(LOG_ERROR, "firecracker::api_server", "The API server's thread cannot be confined.");
	for (;;) {
		struct epoll_event events[SERVER_CONNECTIONS + 1];
		int count = epoll_wait(s->epoll, events, SERVER_CONNECTIONS + 1, s->resting ? REST_MS : -1);

		if (s->resting)
			watch_listener(s, true);
		for (int i = 0; i < count; i++)
			handle_event(s, &events[i]);
	}
	return NULL;
}

static struct server *new_server(int listener, uint64_t body_bytes)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = SERVER_CONNECTIONS};
	struct server *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	for (unsigned i = 0; i < SERVER_CONNECTIONS; i++)
		s->connections[i].fd = -1;
	s->listener = listener;
	s->body_bytes = body_bytes;
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll >= 0 && !epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->listener, &event))
		return s;
	if (s->epoll >= 0)
		close(s->epoll);
	free(s);
	return NULL;
}

int server_start(int listener, uint64_t body_bytes, struct channel *channel, bool unconfined,
		 struct riffle_error *error)
{
	struct server *s = new_server(listener, body_bytes);
	pthread_t thread;
	sigset_t mask;
	int status;

	if (!s)
		return riffle_fail_system(error, errno, "API server", "cannot be made");
	s->channel = channel;
	s->unconfined = unconfined;
	/* the process's signals are the main thread's; those of its own calls are handled and counted in any thread */
	signals_but_faults(&mask);
	sigdelset(&mask, SIGPIPE);
	sigdelset(&mask, SIGXFSZ);
	status = thread_start_masked(&thread, &mask, run, s, error);
	if (!status)
		pthread_detach(thread);
	return status;
}
