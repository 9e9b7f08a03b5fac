/*
 * aws.c
 *		What the names of AWS's hosts say: the region and the service that a signature is for.
 */
#include "postgres.h"

#include "base/json.h"
#include "server/aws.h"

#define MAX_LABELS 8

/*
 * The host of a URL, in lower case, palloc'd.
 */
static char *
host_of(const char *url)
{
	const char *start = strstr(url, "://");
	char *host;
	char *p;

	start = start ? start + 3 : url;
	host = pnstrdup(start, strcspn(start, ":/?"));
	for (p = host; *p != '\0'; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	return host;
}

static bool
ends_with(const char *text, const char *end)
{
	size_t len = strlen(text);
	size_t end_len = strlen(end);

	return len > end_len && strcmp(text + len - end_len, end) == 0;
}

/*
 * True if a URL has one of AWS's own hosts.
 */
bool
aws_is_host(const char *url)
{
	char *host = host_of(url);

	return ends_with(host, ".amazonaws.com") || ends_with(host, ".amazonaws.com.cn");
}

/*
 * Returns the name with which a service signs, if it differs from that of its hosts.
 */
static char *
signing_name(char *service)
{
	if (strcmp(service, "bedrock-runtime") == 0 || strcmp(service, "bedrock-agent-runtime") == 0)
		return "bedrock";
	if (strcmp(service, "runtime") == 0) /* runtime.sagemaker */
		return "sagemaker";
	return service;
}

/*
 * Returns the number of a host's labels, without those of AWS's domain.
 */
static int
read_labels(char *host, const char *domain, char **labels)
{
	int n = 0;
	char *label;
	char *rest;

	host[strlen(host) - strlen(domain)] = '\0';
	for (label = strtok_r(host, ".", &rest); label != NULL && n < MAX_LABELS;
		 label = strtok_r(NULL, ".", &rest))
		labels[n++] = label;
	return n;
}

/*
 * Reads region and service from the host of a URL, palloc'd; NULL if it does not say.  Hosts are
 * SERVICE.REGION.amazonaws.com, with a bucket's name or the like before that; or, for a function of Lambda,
 * ID.lambda-url.REGION.on.aws.
 */
void
aws_read_host(const char *url, char **region, char **service)
{
	char *host = host_of(url);
	char *labels[MAX_LABELS];
	int n = 0;

	*region = *service = NULL;
	if (ends_with(host, ".amazonaws.com"))
		n = read_labels(host, ".amazonaws.com", labels);
	else if (ends_with(host, ".amazonaws.com.cn"))
		n = read_labels(host, ".amazonaws.com.cn", labels);
	else if (ends_with(host, ".on.aws"))
	{
		n = read_labels(host, ".on.aws", labels);
		if (n >= 2 && strcmp(labels[n - 2], "lambda-url") == 0)
			labels[n - 2] = "lambda";
		else
			n = 0;
	}
	if (n == 0)
		return;
	if (n == 1 || strcmp(labels[n - 1], "s3") == 0)
	{
		/* a service that has one host for all regions signs for the first of them */
		*region = pstrdup("us-east-1");
		*service = pstrdup(signing_name(labels[n - 1]));
		return;
	}
	*region = pstrdup(labels[n - 1]);
	*service = pstrdup(signing_name(labels[n - 2]));
}

/*
 * Returns the first of some headers (a JSON object that was checked) that only a signature sets; NULL: none.
 */
const char *
aws_find_signing_header(const char *headers)
{
	static const char *const own[] = {"Authorization", "X-Amz-Content-Sha256", "X-Amz-Date",
									  "X-Amz-Security-Token"};
	const cJSON *header;
	int i;

	for (header = json_parse_trusted(headers)->child; header != NULL; header = header->next)
	{
		for (i = 0; i < lengthof(own); i++)
		{
			if (pg_strcasecmp(header->string, own[i]) == 0)
				return own[i];
		}
	}
	return NULL;
}
