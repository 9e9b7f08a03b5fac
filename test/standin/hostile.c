/*
 * hostile.c
 *		Servers that mean harm: each does one thing to whoever calls, at once and for as long as it is let.
 *
 *		hostile --port-file FILE [--tls CERT KEY] [--die-with-parent]
 *
 * Each kind listens on a port of 127.0.0.1 of its own; FILE gets a line "KIND PORT" for each.  A connection is a
 * thread, so that what each does (harm.c) can be read from top to bottom.  README.md says what they do.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "harm.h"

typedef struct Connection
{
	const HarmKind *kind;
	int fd;
} Connection;

static void *
serve(void *arg)
{
	Connection connection = *(Connection *) arg;
	int one = 1;

	free(arg);
	setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (!connection.kind->reads || harm_read_request(connection.fd))
		harm_serve(connection.kind, connection.fd);
	close(connection.fd);
	return NULL;
}

static void
die(const char *what)
{
	fprintf(stderr, "hostile: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *
accept_all(void *arg)
{
	Connection *listening = arg;

	for (;;)
	{
		Connection *connection = malloc(sizeof(*connection));
		pthread_attr_t small;
		pthread_t thread;

		if (connection == NULL)
			die("malloc");
		connection->kind = listening->kind;
		connection->fd = accept(listening->fd, NULL, NULL);
		pthread_attr_init(&small);
		pthread_attr_setstacksize(&small, 512 * 1024);
		pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
		if (connection->fd < 0 || pthread_create(&thread, &small, serve, connection) != 0)
		{
			free(connection);
			usleep(1000);
		}
		pthread_attr_destroy(&small);
	}
	return NULL;
}

static int
listen_on_free_port(const HarmKind *kind, int *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		listen(fd, kind->refuses ? 0 : 1024) != 0 ||
		getsockname(fd, (struct sockaddr *) &address, &len) != 0)
		die("listen");
	*port = ntohs(address.sin_port);
	return fd;
}

static void
read_certificate(const char *certificate, const char *key)
{
	SSL_CTX *tls = SSL_CTX_new(TLS_server_method());

	if (tls == NULL || SSL_CTX_use_certificate_chain_file(tls, certificate) != 1 ||
		SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
	{
		fprintf(stderr, "hostile: certificate or key cannot be used\n");
		exit(1);
	}
	harm_use_tls(tls);
}

static void
listen_on_all(const char *port_file)
{
	static Connection listening[HARM_KINDS];
	char temporary[4096];
	FILE *file;
	int i;

	snprintf(temporary, sizeof(temporary), "%s.new", port_file);
	file = fopen(temporary, "w");
	if (file == NULL)
		die(temporary);
	for (i = 0; i < HARM_KINDS; i++)
	{
		pthread_t thread;
		int port;

		listening[i].kind = &harm_kinds[i];
		listening[i].fd = listen_on_free_port(&harm_kinds[i], &port);
		fprintf(file, "%s %d\n", harm_kinds[i].name, port);
		if (!harm_kinds[i].refuses && pthread_create(&thread, NULL, accept_all, &listening[i]) != 0)
			die("pthread_create");
	}
	if (fclose(file) != 0 || rename(temporary, port_file) != 0)
		die(port_file);
}

int
main(int argc, char **argv)
{
	const char *port_file = NULL;
	int i;

	signal(SIGPIPE, SIG_IGN);
	/* it shares the machine with those that it is to harm by other means than by taking it from them */
	(void) !nice(19);
	for (i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "--port-file") == 0 && i + 1 < argc)
			port_file = argv[++i];
		else if (strcmp(argv[i], "--tls") == 0 && i + 2 < argc)
		{
			read_certificate(argv[i + 1], argv[i + 2]);
			i += 2;
		}
		else if (strcmp(argv[i], "--die-with-parent") == 0)
			prctl(PR_SET_PDEATHSIG, SIGTERM);
		else
		{
			fprintf(stderr,
					"usage: hostile --port-file FILE [--tls CERT KEY] [--die-with-parent]\n");
			return 2;
		}
	}
	if (port_file == NULL)
		return 2;
	listen_on_all(port_file);
	for (;;)
		pause();
}
