/*
 * aws.c
 *		Reads the region and the service to sign for from the names of AWS's
 *		hosts.
 */
#include "postgres.h"

#include "base/json.h"
#include "server/aws.h"

#define MAX_LABELS 64

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
 * The domains of AWS's services, two for each partition: botocore's
 * partitions.json, "dnsSuffix" and "dualStackDnsSuffix".
 */
static const char *const domains[] = {
	".amazonaws.com",    ".api.aws",
	".amazonaws.com.cn", ".api.amazonwebservices.com.cn",
	".amazonaws.eu",     ".api.amazonwebservices.eu",
	".c2s.ic.gov",       ".api.aws.ic.gov",
	".sc2s.sgov.gov",    ".api.aws.scloud",
	".cloud.adc-e.uk",   ".api.cloud-aws.adc-e.uk",
	".csp.hci.ic.gov",   ".api.aws.hci.ic.gov",
};

/*
 * Returns the one of domains that a host has, or NULL.
 */
static const char *
domain_of(const char *host)
{
	int i;

	for (i = 0; i < lengthof(domains); i++)
	{
		if (ends_with(host, domains[i]))
			return domains[i];
	}
	return NULL;
}

/*
 * True if a URL has one of AWS's own hosts.
 */
bool
aws_is_host(const char *url)
{
	return domain_of(host_of(url)) != NULL;
}

/*
 * Returns the name that a service signs with, palloc'd.  Its hosts may use
 * another name.
 */
static char *
signing_name(const char *service)
{
	static const struct
	{
		const char *host;
		const char *name;
	} others[] = {{"bedrock-runtime", "bedrock"},
				  {"bedrock-agent", "bedrock"},
				  {"bedrock-agent-runtime", "bedrock"},
				  {"bedrock-agentcore-control", "bedrock-agentcore"},
				  {"bedrock-data-automation", "bedrock"},
				  {"bedrock-data-automation-runtime", "bedrock"},
				  {"email", "ses"},
				  {"forecastquery", "forecast"},
				  {"models-v2-lex", "lex"},
				  {"personalize-events", "personalize"},
				  {"personalize-runtime", "personalize"},
				  {"runtime", "sagemaker"}, /* runtime.sagemaker */
				  {"runtime-v2-lex", "lex"},
				  {"s3-accesspoint", "s3"},
				  {"s3-control", "s3"},
				  {"sync-states", "states"}}; /* StartSyncExecution */
	size_t len = strlen(service) - (ends_with(service, "-fips") ? strlen("-fips") : 0);
	char *name = pnstrdup(service, len);
	int i;

	for (i = 0; i < lengthof(others); i++)
	{
		if (strcmp(name, others[i].host) == 0)
			return pstrdup(others[i].name);
	}
	return name;
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
 * True if a label is the name of a region, such as "eu-central-1".
 */
static bool
is_region(const char *label)
{
	const char *dash = strrchr(label, '-');

	return dash != NULL && memchr(label, '-', dash - label) != NULL && dash[1] != '\0' &&
		   strspn(dash + 1, "0123456789") == strlen(dash + 1);
}

/*
 * Reads the names of hosts from AWS's first years, which clients still have.
 * False if the labels are none of those.
 */
static bool
read_old_host(char **labels, int n, char **region, char **service)
{
	const char *last = labels[n - 1];

	if (strcmp(last, "queue") == 0)
	{
		*region = pstrdup(n > 1 ? labels[n - 2] : "us-east-1");
		*service = pstrdup("sqs");
		return true;
	}
	if (strncmp(last, "s3-", 3) != 0)
		return false;
	*service = pstrdup("s3");
	/* s3-accelerate serves all regions, and takes only the bucket's own */
	*region = is_region(last + 3) ? pstrdup(last + 3) : NULL;
	return true;
}

/*
 * Reads region and service from the host of url; each is palloc'd, or NULL if
 * the host does not name it.  A host is SERVICE.REGION.amazonaws.com, with
 * more before it where a bucket's name is there, "dualstack" between the two,
 * and "vpce" behind them in a private network.  The host of a Lambda function
 * is ID.lambda-url.REGION.on.aws.  Returns true if the host names the region;
 * a host without one serves all regions and expects the signature for
 * us-east-1.
 */
bool
aws_read_host(const char *url, char **region, char **service)
{
	char *host = host_of(url);
	const char *domain = domain_of(host);
	char *labels[MAX_LABELS];
	int n = 0;

	*region = *service = NULL;
	if (domain != NULL)
		n = read_labels(host, domain, labels);
	else if (ends_with(host, ".on.aws"))
	{
		n = read_labels(host, ".on.aws", labels);
		if (n >= 2 && strcmp(labels[n - 2], "lambda-url") == 0)
			labels[n - 2] = "lambda";
		else
			n = 0;
	}
	if (n > 2 && strcmp(labels[n - 1], "vpce") == 0)
		n--;
	if (n > 2 && strcmp(labels[n - 2], "dualstack") == 0)
	{
		labels[n - 2] = labels[n - 1];
		n--;
	}
	if (n == 0)
		return false;
	if (read_old_host(labels, n, region, service))
		return n > 1 || *region != NULL;
	if (n == 1 || strcmp(labels[n - 1], "s3") == 0)
	{
		*region = pstrdup("us-east-1");
		*service = signing_name(labels[n - 1]);
		return false;
	}
	*region = pstrdup(labels[n - 1]);
	*service = signing_name(labels[n - 2]);
	return is_region(*region);
}
