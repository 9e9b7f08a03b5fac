/*
 * aws.c
 *		Reads the region and the service to sign for from the names of AWS's
 *		hosts.
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
 * Returns the name that a service signs with.  Its hosts may use another name.
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
 * Splits host into labels, without domain at its end, and returns their
 * number.  Changes host; the labels point into it.
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
 * Reads region and service from the host of url; each is palloc'd, or NULL if
 * the host does not name it.  A host is SERVICE.REGION.amazonaws.com, with
 * more before it where a bucket's name is there.  The host of a Lambda
 * function is ID.lambda-url.REGION.on.aws.
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
		/*
		 * without a region, the host serves all regions and expects the
		 * signature for us-east-1
		 */
		*region = pstrdup("us-east-1");
		*service = pstrdup(signing_name(labels[n - 1]));
		return;
	}
	*region = pstrdup(labels[n - 1]);
	*service = pstrdup(signing_name(labels[n - 2]));
}

/*
 * Returns the name of a header that only a signature sets, if headers (a
 * checked JSON object) has one; else NULL.
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
