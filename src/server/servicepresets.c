/*
 * servicepresets.c
 *		The presets of servers that run no model: AWS's services, object
 *		stores, receivers of webhooks, and "http", which the user describes by
 *		options.  See modelpresets.c.
 */
#include "postgres.h"

#include "server/preset.h"
#include "server/streampresets.h"

/* Seconds, as senders of Standard Webhooks wait: 27.5 hours in all */
static const int webhook_schedule[] = {5, 300, 1800, 7200, 18000, 36000, 36000, 0};

const Preset preset_services[] = {
	/*
	 * https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html: the
	 * function chooses its answer.  If it failed, a header says so; the status
	 * is still 200.
	 */
	{
		.api = "aws-lambda",
		.needs_secret = true,
		.fails_by = "X-Amz-Function-Error",
		.error_type = "x-amzn-ErrorType",
		.hands_over = "X-Amz-Invocation-Type: Event",
		.protocol =
			{
				.auth = "sigv4",
				.service = "lambda",
				.path = "/2015-03-31/functions/{model}/invocations",
				.any_answer = "on",
				.error = "/errorMessage /Message /message",
				.retry_after = "/retryAfterSeconds",
			},
	},

	/* https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html: the model is the queue */
	{
		.api = "aws-sqs",
		.needs_secret = true,
		.target = "AmazonSQS.SendMessage",
		.text_at = "/MessageBody",
		.has_groups = true,
		.protocol =
			{
				.auth = "sigv4",
				.service = "sqs",
				.path = "/",
				.wrap = "/MessageBody",
				.model_at = "/QueueUrl",
				.error = "/message /Message",
			},
	},

	/* https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html: the model is the machine */
	{
		.api = "aws-sfn",
		.needs_secret = true,
		.target = "AWSStepFunctions.StartExecution",
		.text_at = "/input",
		.text_is_json = true,
		.key_at = "/name",
		.known_by = "ExecutionAlreadyExists",
		.answer_text_at = "/output",
		.protocol =
			{
				.auth = "sigv4",
				.service = "states",
				.path = "/",
				.wrap = "/input",
				.model_at = "/stateMachineArn",
				.reply = "poll",
				.remote_id = "/executionArn",
				.poll = "POST / DescribeExecution{\"executionArn\": \"{id}\"}",
				.state = "/status",
				.states = "ok=SUCCEEDED;fail=FAILED,TIMED_OUT,ABORTED",
				.error = "/message /Message /error +/cause",
				.cancel = "POST / StopExecution{\"executionArn\": \"{id}\"}",
			},
	},

	/* Amazon's S3 and compatible stores; s3.c reads the requests */
	{
		.api = "s3",
		.needs_secret = true,
		.is_store = true,
		.protocol =
			{
				.auth = "sigv4",
				.service = "s3",
				.path = "",
				.body = "raw",
				.accept = "*/*",
				.any_answer = "on",
			},
	},

	/*
	 * https://www.standardwebhooks.com: the receiver must answer any 2xx
	 * within seconds.  genjob retries after all other answers except 410.
	 */
	{
		.api = "webhook",
		.needs_secret = true,
		.gone_pauses = true,
		.is_receipt = true,
		.settings = "timeout=30 s;max_attempts=8;max_response=1MB;retry_status=400-409,411-599",
		.schedule = webhook_schedule,
		.protocol =
			{
				.auth = "webhook",
				.path = "",
				.accept = "*/*",
				.any_answer = "on",
			},
	},

	/*
	 * Any other server: as it is if it answers at once, else described by
	 * these options.
	 */
	{
		.api = "http",
		.protocol =
			{
				.auth = "bearer",
				.path = "",
				.model_at = "/model",
				.accept = "*/*",
				STREAM_ANY,
				.any_answer = "on",
				.error = "/error/message +/error/details /error /detail /message /Message",
				.usage = "/usage",
			},
	},
};

const int preset_n_services = lengthof(preset_services);
