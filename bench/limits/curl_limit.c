/*
 * curl_limit.c
 *		How many calls a second libcurl makes when there is nothing else to do: the limit of whoever
 *		calls through it from one thread.
 *
 *		curl_limit URL BODY CALLS AT_A_TIME
 *
 * Prints calls a second.  Handles and connections are reused, sockets are in one epoll descriptor, the
 * answers' bodies are read and dropped.
 */
#include <curl/curl.h>
#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#define MAX_EVENTS 256

typedef struct Load
{
	CURLM *multi;
	int epoll;
	long timeout_ms; /* libcurl's timer; -1: none */
	int to_start;
	int to_end;
} Load;

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static size_t
drop_body(char *data, size_t size, size_t n, void *arg)
{
	(void) data;
	(void) arg;
	return size * n;
}

static int
watch_socket(CURL *easy, curl_socket_t socket, int what, void *arg, void *known)
{
	Load *load = arg;
	struct epoll_event event = {.data.fd = socket};

	(void) easy;
	if (what == CURL_POLL_REMOVE)
	{
		epoll_ctl(load->epoll, EPOLL_CTL_DEL, socket, NULL);
		return 0;
	}
	event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (epoll_ctl(load->epoll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, socket, &event) != 0)
		err(1, "epoll_ctl");
	curl_multi_assign(load->multi, socket, load);
	return 0;
}

static int
set_timer(CURLM *multi, long timeout_ms, void *arg)
{
	(void) multi;
	((Load *) arg)->timeout_ms = timeout_ms;
	return 0;
}

static void
start_call(Load *load, CURL *easy)
{
	load->to_start--;
	if (curl_multi_add_handle(load->multi, easy) != CURLM_OK)
		errx(1, "curl_multi_add_handle failed");
}

static CURL *
make_handle(const char *url, const char *body, struct curl_slist *headers)
{
	CURL *easy = curl_easy_init();

	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop_body);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	return easy;
}

static void
take_finished(Load *load)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(load->multi, &left)) != NULL)
	{
		CURL *easy = message->easy_handle;
		long status = 0;

		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		if (message->data.result != CURLE_OK || status != 200)
			errx(1, "a call failed: %s, status %ld", curl_easy_strerror(message->data.result),
				 status);
		load->to_end--;
		curl_multi_remove_handle(load->multi, easy);
		if (load->to_start > 0)
			start_call(load, easy);
		else
			curl_easy_cleanup(easy);
	}
}

static void
run(Load *load)
{
	struct epoll_event events[MAX_EVENTS];
	int running;

	while (load->to_end > 0)
	{
		int n = epoll_wait(load->epoll, events, MAX_EVENTS, (int) load->timeout_ms);
		int i;

		if (n == 0)
			curl_multi_socket_action(load->multi, CURL_SOCKET_TIMEOUT, 0, &running);
		for (i = 0; i < n; i++)
			curl_multi_socket_action(load->multi, events[i].data.fd,
									 (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
										 (events[i].events & ~EPOLLOUT ? CURL_CSELECT_IN : 0),
									 &running);
		take_finished(load);
	}
}

int
main(int argc, char **argv)
{
	Load load = {.timeout_ms = -1};
	struct curl_slist *headers;
	int calls, at_a_time;
	double began;

	if (argc != 5)
		errx(2, "usage: curl_limit URL BODY CALLS AT_A_TIME");
	calls = load.to_start = load.to_end = atoi(argv[3]);
	at_a_time = atoi(argv[4]);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	load.multi = curl_multi_init();
	load.epoll = epoll_create1(EPOLL_CLOEXEC);
	curl_multi_setopt(load.multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl_multi_setopt(load.multi, CURLMOPT_SOCKETDATA, &load);
	curl_multi_setopt(load.multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(load.multi, CURLMOPT_TIMERDATA, &load);
	headers = curl_slist_append(NULL, "Content-Type: application/json");
	began = seconds();
	while (load.to_start > 0 && at_a_time-- > 0)
		start_call(&load, make_handle(argv[1], argv[2], headers));
	run(&load);
	printf("%.0f\n", calls / (seconds() - began));
	return 0;
}
