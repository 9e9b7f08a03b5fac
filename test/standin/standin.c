/*
 * standin.c
 *		The process of the stand-in GenAI server: its options, the sockets it
 *		listens on, TLS, and how it stops.
 */
#include "prediction.h"

#include <arpa/inet.h>
#include <err.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/listener.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#define MAX_HEADERS (64 * 1024)
#define MAX_BODY (512 * 1024 * 1024)

typedef struct Options
{
	int port;
	const char *port_file;
	const char *certificate;
	const char *key;
	double latency_ms;
	int foreign_port;
	const char *foreign_host;
	int backlog;
	bool die_with_parent;
} Options;

const char *own_scheme = "http";
char *own_base;
char *foreign_base;

/* Who answers; an address that two could answer is the first one's */
static const Dialect *const dialects[] = {&openai_dialect,
										  &openai_text_dialect,
										  &openai_responses_dialect,
										  &sdapi_dialect,
										  &sdcpp_dialect,
										  &replicate_dialect,
										  &fal_dialect,
										  &bfl_dialect,
										  &comfyui_dialect,
										  &runpod_dialect,
										  &huggingface_dialect,
										  &ollama_dialect,
										  &anthropic_dialect,
										  &gemini_dialect,
										  &stability_dialect,
										  &kserve_dialect,
										  &files_dialect,
										  &plain_dialect,
										  NULL};
static const Dialect *const foreign_dialects[] = {&files_dialect, &foreign_dialect, NULL};

static const Listener own_listener = {.dialects = dialects, .counted = true};
static const Listener plain_listener = {.dialects = dialects};
static const Listener foreign_listener = {.dialects = foreign_dialects,
										  .counted = true,
										  .foreign = true};

static const char usage_text[] =
	"Usage: standin [OPTION]...\n"
	"Plays GenAI servers on 127.0.0.1 for tests and benchmarks.\n\n"
	"  --port N           listen on port N (default 0: any free port)\n"
	"  --port-file FILE   write the ports to FILE once listening, one a line: the port,\n"
	"                     with --tls the one that takes plain HTTP, the foreign host's\n"
	"  --cdn-port N       the foreign host of files is on port N (default 0: any free port)\n"
	"  --cdn-host NAME    what URLs call that host (default 127.0.0.1)\n"
	"  --api-key KEY      refuse calls that do not bring KEY as their dialect has it\n"
	"  --idempotent       the same Idempotency-Key is the same prediction\n"
	"  --tls CERT KEY     speak TLS with this certificate chain and key (PEM files)\n"
	"  --latency MS       answer after MS milliseconds (default 0)\n"
	"  --backlog N        connections the kernel keeps until accepted (default 4096)\n"
	"  --die-with-parent  stop when the parent process has gone\n"
	"  --help             show this help\n";

/* The number in "text"; ends the process with a message when it is none or out of range. */
static double
option_number(const char *option, const char *text, double max)
{
	char *end;
	double number = strtod(text, &end);

	if (end == text || *end != '\0' || !(number >= 0 && number <= max))
		errx(2, "--%s takes a number from 0 to %.0f, not \"%s\"; see --help", option, max, text);
	return number;
}

static Options
options_parse(int argc, char **argv)
{
	static const struct option known[] =
		{{"port", required_argument, NULL, 'p'},     {"port-file", required_argument, NULL, 'f'},
		 {"tls", required_argument, NULL, 't'},      {"latency", required_argument, NULL, 'l'},
		 {"cdn-port", required_argument, NULL, 'c'}, {"cdn-host", required_argument, NULL, 'H'},
		 {"api-key", required_argument, NULL, 'k'},  {"idempotent", no_argument, NULL, 'i'},
		 {"backlog", required_argument, NULL, 'b'},  {"die-with-parent", no_argument, NULL, 'd'},
		 {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0}};
	Options options = {.backlog = 4096, .foreign_host = "127.0.0.1"};
	int c;

	while ((c = getopt_long(argc, argv, "+", known, NULL)) != -1)
	{
		if (c == 'p')
			options.port = (int) option_number("port", optarg, 65535);
		else if (c == 'f')
			options.port_file = optarg;
		else if (c == 't' && optind < argc)
		{
			options.certificate = optarg;
			options.key = argv[optind++];
		}
		else if (c == 'l')
			options.latency_ms = option_number("latency", optarg, 86400000);
		else if (c == 'c')
			options.foreign_port = (int) option_number("cdn-port", optarg, 65535);
		else if (c == 'H')
			options.foreign_host = optarg;
		else if (c == 'k')
			auth_key = optarg;
		else if (c == 'i')
			prediction_idempotent = true;
		else if (c == 'b')
			options.backlog = (int) option_number("backlog", optarg, 1000000);
		else if (c == 'd')
			options.die_with_parent = true;
		else
		{
			fputs(usage_text, c == 'h' ? stdout : stderr);
			exit(c == 'h' ? 0 : 2);
		}
	}
	if (optind < argc)
		errx(2, "unknown argument \"%s\"; see --help", argv[optind]);
	return options;
}

/* Asks to be stopped with the parent; the parent may have gone before the kernel knew. */
static void
process_die_with_parent(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0)
		err(1, "could not ask to be stopped with the parent process");
	if (getppid() != parent)
		exit(0);
}

static void
process_raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		warn("could not raise the limit of open files");
}

static SSL_CTX *
tls_context_new(const Options *options)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());

	if (context == NULL)
		errx(1, "could not set up TLS: %s", ERR_error_string(ERR_get_error(), NULL));
	if (SSL_CTX_use_certificate_chain_file(context, options->certificate) != 1)
		errx(1, "could not use the certificate \"%s\": %s", options->certificate,
			 ERR_error_string(ERR_get_error(), NULL));
	if (SSL_CTX_use_PrivateKey_file(context, options->key, SSL_FILETYPE_PEM) != 1)
		errx(1, "could not use the key \"%s\": %s", options->key,
			 ERR_error_string(ERR_get_error(), NULL));
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
	return context;
}

/* Called for each accepted connection; NULL lets evhttp make a plain one. */
static struct bufferevent *
connection_new(struct event_base *base, void *arg)
{
	SSL_CTX *context = arg;

	counts_add_connection();
	if (context == NULL)
		return NULL;
	return bufferevent_openssl_socket_new(base, -1, SSL_new(context), BUFFEREVENT_SSL_ACCEPTING,
										  BEV_OPT_CLOSE_ON_FREE);
}

static void
listener_resume(evutil_socket_t fd, short what, void *arg)
{
	(void) fd;
	(void) what;
	evconnlistener_enable(arg);
}

/* Out of descriptors, most likely: say so, and do not spin on the waiting connection. */
static void
listener_on_error(struct evconnlistener *listener, void *arg)
{
	struct timeval pause = {0, 100000};

	(void) arg;
	warn("could not accept a connection; raise the hard limit of open files (ulimit -Hn)");
	evconnlistener_disable(listener);
	event_base_once(evconnlistener_get_base(listener), -1, EV_TIMEOUT, listener_resume, listener,
					&pause);
}

/* Binds "http" to a port of 127.0.0.1 and returns the port. */
static int
http_listen(struct evhttp *http, struct event_base *base, int port, int backlog)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	socklen_t len = sizeof(address);
	struct evconnlistener *listener;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener =
		evconnlistener_new_bind(base, NULL, NULL,
								LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE,
								backlog, (struct sockaddr *) &address, sizeof(address));
	if (listener == NULL)
		err(1, "could not listen on 127.0.0.1:%d", port);
	if (evhttp_bind_listener(http, listener) == NULL)
		errx(1, "could not serve HTTP on 127.0.0.1:%d", port);
	evconnlistener_set_error_cb(listener, listener_on_error);
	if (getsockname(evconnlistener_get_fd(listener), (struct sockaddr *) &address, &len) != 0)
		err(1, "could not find out the port");
	return ntohs(address.sin_port);
}

static struct evhttp *
http_new(struct event_base *base, const Listener *listener, SSL_CTX *context)
{
	struct evhttp *http = evhttp_new(base);

	if (http == NULL)
		errx(1, "out of memory");
	evhttp_set_max_headers_size(http, MAX_HEADERS);
	evhttp_set_max_body_size(http, MAX_BODY);
	evhttp_set_default_content_type(http, NULL);
	evhttp_set_allowed_methods(http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD |
										 EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS |
										 EVHTTP_REQ_PATCH);
	evhttp_set_gencb(http, call_handle_request, (void *) listener);
	if (listener->counted)
		evhttp_set_bevcb(http, connection_new, context);
	return http;
}

/* Writes the ports, one a line, so that a reader sees all of the file or none of it. */
static void
port_file_write(const char *path, int port, int plain_port, int foreign_port)
{
	char *draft;
	FILE *file;

	if (asprintf(&draft, "%s.%d", path, (int) getpid()) < 0)
		errx(1, "out of memory");
	file = fopen(draft, "w");
	if (file == NULL)
		err(1, "could not write the port to \"%s\"", draft);
	fprintf(file, "%d\n", port);
	if (plain_port != 0)
		fprintf(file, "%d\n", plain_port);
	fprintf(file, "%d\n", foreign_port);
	if (fclose(file) != 0 || rename(draft, path) != 0)
		err(1, "could not write the port to \"%s\"", path);
	free(draft);
}

static void
process_on_signal(evutil_socket_t signal_number, short what, void *arg)
{
	(void) signal_number;
	(void) what;
	event_base_loopbreak(arg);
}

/* Says where it listens: on its output, and in the file if one is wanted. */
static void
process_announce(const Options *options, int port, int plain_port, int foreign_port)
{
	printf("listening on 127.0.0.1:%d\n", port);
	if (plain_port != 0)
		printf("plain HTTP on 127.0.0.1:%d\n", plain_port);
	printf("files of a foreign host on 127.0.0.1:%d\n", foreign_port);
	fflush(stdout);
	own_scheme = options->certificate ? "https" : "http";
	own_base = text_format("%s://127.0.0.1:%d", own_scheme, port);
	foreign_base = text_format("%s://%s:%d", own_scheme, options->foreign_host, foreign_port);
	if (options->port_file)
		port_file_write(options->port_file, port, plain_port, foreign_port);
}

/* Serves until SIGTERM or SIGINT. */
static void
process_run(const Options *options)
{
	SSL_CTX *context = options->certificate ? tls_context_new(options) : NULL;
	struct event_base *base = call_base = event_base_new();
	struct event *term = evsignal_new(base, SIGTERM, process_on_signal, base);
	struct event *interrupt = evsignal_new(base, SIGINT, process_on_signal, base);
	struct evhttp *http = http_new(base, &own_listener, context);
	struct evhttp *foreign = http_new(base, &foreign_listener, context);
	struct evhttp *plain = context ? http_new(base, &plain_listener, NULL) : NULL;
	int port = http_listen(http, base, options->port, options->backlog);
	int foreign_port = http_listen(foreign, base, options->foreign_port, options->backlog);
	int plain_port = plain ? http_listen(plain, base, 0, options->backlog) : 0;

	event_add(term, NULL);
	event_add(interrupt, NULL);
	process_announce(options, port, plain_port, foreign_port);

	event_base_dispatch(base);

	evhttp_free(http);
	evhttp_free(foreign);
	if (plain)
		evhttp_free(plain);
	event_free(term);
	event_free(interrupt);
	event_base_free(base);
	SSL_CTX_free(context);
	free(own_base);
	free(foreign_base);
}

int
main(int argc, char **argv)
{
	pid_t parent = getppid();
	Options options = options_parse(argc, argv);

	if (options.die_with_parent)
		process_die_with_parent(parent);
	process_raise_file_limit();
	signal(SIGPIPE, SIG_IGN);
	call_default_latency_ms = options.latency_ms;

	process_run(&options);

	counts_reset();
	prediction_reset();
	picture_free_buffers();
	libevent_global_shutdown();
	return 0;
}
