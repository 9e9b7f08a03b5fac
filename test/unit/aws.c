/*
 * aws.c
 *		What the names of AWS's hosts say of region and service.
 */
#include "unit.h"

#include "server/aws.h"

typedef struct HostCase
{
	const char *url;
	const char *region;
	const char *service;
} HostCase;

static const HostCase hosts[] = {
	{"https://s3.eu-central-1.amazonaws.com", "eu-central-1", "s3"},
	{"https://S3.EU-central-1.amazonaws.com:443/x", "eu-central-1", "s3"},
	{"https://pictures.s3.eu-central-1.amazonaws.com", "eu-central-1", "s3"},
	{"https://s3.amazonaws.com", "us-east-1", "s3"},
	{"https://pictures.s3.amazonaws.com", "us-east-1", "s3"},
	{"https://s3.cn-north-1.amazonaws.com.cn", "cn-north-1", "s3"},
	{"https://lambda.us-west-2.amazonaws.com", "us-west-2", "lambda"},
	{"https://abc.lambda-url.us-west-2.on.aws/", "us-west-2", "lambda"},
	{"https://bedrock-runtime.us-east-1.amazonaws.com", "us-east-1", "bedrock"},
	{"https://runtime.sagemaker.us-east-1.amazonaws.com", "us-east-1", "sagemaker"},
	{"https://sqs.us-east-1.amazonaws.com", "us-east-1", "sqs"},
	{"https://abc.execute-api.us-east-1.amazonaws.com/prod", "us-east-1", "execute-api"},
	{"https://bucket.s3.dualstack.us-west-2.amazonaws.com", "us-west-2", "s3"},
	{"https://bucket.vpce-1a2b-3c.s3.us-west-2.vpce.amazonaws.com", "us-west-2", "s3"},
	{"https://s3-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", "s3"},
	{"https://s3-fips.dualstack.us-gov-west-1.amazonaws.com", "us-gov-west-1", "s3"},
	{"https://bucket.s3-eu-west-1.amazonaws.com", "eu-west-1", "s3"},
	{"https://s3-eu-west-1.amazonaws.com", "eu-west-1", "s3"},
	{"https://bucket.s3-accelerate.amazonaws.com", NULL, "s3"},
	{"https://point-1.s3-accesspoint.us-west-2.amazonaws.com", "us-west-2", "s3"},
	{"https://a.b.c.d.e.f.g.h.s3.us-west-2.amazonaws.com", "us-west-2", "s3"},
	{"https://s3.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1", "s3"},
	{"https://lambda-fips.us-east-2.amazonaws.com", "us-east-2", "lambda"},
	{"https://lambda.us-east-2.api.aws", "us-east-2", "lambda"},
	{"https://vpce-1a-2b.lambda.us-east-2.vpce.amazonaws.com", "us-east-2", "lambda"},
	{"https://bedrock-runtime-fips.us-east-1.amazonaws.com", "us-east-1", "bedrock"},
	{"https://bedrock-agentcore.us-east-1.amazonaws.com", "us-east-1", "bedrock-agentcore"},
	{"https://bedrock-agentcore-control.us-east-1.amazonaws.com", "us-east-1", "bedrock-agentcore"},
	{"https://bedrock-data-automation-runtime.us-east-1.amazonaws.com", "us-east-1", "bedrock"},
	{"https://bedrock-data-automation-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", "bedrock"},
	{"https://sync-states.us-east-1.amazonaws.com", "us-east-1", "states"},
	{"https://123456789012.s3-control.us-east-1.amazonaws.com", "us-east-1", "s3"},
	{"https://email.eu-west-1.amazonaws.com", "eu-west-1", "ses"},
	{"https://personalize-runtime.eu-west-1.amazonaws.com", "eu-west-1", "personalize"},
	{"https://runtime-v2-lex.eu-west-1.amazonaws.com", "eu-west-1", "lex"},
	{"https://runtime.lex.eu-west-1.amazonaws.com", "eu-west-1", "lex"},
	{"https://query.timestream.eu-west-1.amazonaws.com", "eu-west-1", "timestream"},
	{"https://s3.cn-north-1.api.amazonwebservices.com.cn", "cn-north-1", "s3"},
	{"https://lambda.eusc-de-east-1.api.amazonwebservices.eu", "eusc-de-east-1", "lambda"},
	{"https://pictures.s3.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", "s3"},
	{"https://sqs.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1", "sqs"},
	{"https://states.us-isof-south-1.csp.hci.ic.gov", "us-isof-south-1", "states"},
	{"https://lambda.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1", "lambda"},
	{"https://us-west-2.queue.amazonaws.com", "us-west-2", "sqs"},
	{"https://queue.amazonaws.com", "us-east-1", "sqs"},
	{"https://iam.amazonaws.com", "us-east-1", "iam"},
	{"https://s3.example.com", NULL, NULL},
	{"http://127.0.0.1:9000", NULL, NULL},
	{"https://amazonaws.com", NULL, NULL},
	{"https://.amazonaws.com", NULL, NULL},
	{"https://abc.on.aws", NULL, NULL},
};

void
unit_run(void)
{
	int i;

	for (i = 0; i < lengthof(hosts); i++)
	{
		char *region;
		char *service;

		aws_read_host(hosts[i].url, &region, &service);
		unit_is_text(region, hosts[i].region, "the region of %s", hosts[i].url);
		unit_is_text(service, hosts[i].service, "the service of %s", hosts[i].url);
	}
}
