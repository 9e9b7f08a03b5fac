/*
 * saved.c
 *		A verdict that is kept in the table comes out as it went in, and nonsense there does no harm.
 */
#include "unit.h"

#include "protocol/saved.h"

static cJSON *
parse(const char *text)
{
	const char *reason;
	char *copy = pstrdup(text);

	return json_parse(copy, strlen(copy), &reason);
}

static void
test_round_trip(void)
{
	Output here = {"image/png", "\x89PNG\0\xff", 6};
	Output there = {"image/png", NULL, 7};
	Output missing = {"image/png"};
	Verdict verdict = {VERDICT_DONE};
	Verdict *read;
	Output *output;
	StringInfoData text;

	there.object = "s3://pictures/a";
	there.etag = "tag";
	there.store = "pictures";
	there.sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	verdict.http_status = 200;
	verdict.result = "{\"a\":7.0,\"b\":{\"$output\":1}}";
	verdict.usage = "{\"n\":1}";
	verdict.outputs = lappend(lappend(lappend(NIL, &here), &there), &missing);
	verdict.note = "a \"word\"";
	initStringInfo(&text);
	saved_write(&text, &verdict);
	read = saved_read(parse(text.data));
	unit_is_text(read->note, verdict.note, "the note");
	unit_is_text(read->result, verdict.result, "the result");
	unit_is_text(read->usage, verdict.usage, "the usage");
	unit_is_int(read->http_status, 200, "the status");
	unit_is_int(list_length(read->outputs), 3, "the outputs");
	output = list_nth(read->outputs, 0);
	unit_ok(output->len == 6 && memcmp(output->data, here.data, 6) == 0, "bytes");
	output = list_nth(read->outputs, 1);
	unit_ok(output->data == NULL && output->len == 7, "... that are in a store");
	unit_is_text(output->object, there.object, "... there");
	unit_is_text(output->sha256, there.sha256, "... with their digest");
	output = list_nth(read->outputs, 2);
	unit_ok(!OUTPUT_IS_THERE(output), "... and that are nowhere");
}

static void
test_nonsense(void)
{
	static const char *const texts[] = {
		"{\"$verdict\":1}",
		"{\"$verdict\":1,\"outputs\":7,\"result\":null,\"status\":1e300}",
		"{\"$verdict\":1,\"outputs\":[1,[],{},{\"data\":\"!\"},{\"object\":\"s3://a/b\"}]}",
	};
	int i;

	for (i = 0; i < lengthof(texts); i++)
	{
		cJSON *json = parse(texts[i]);
		Verdict *verdict;
		ListCell *cell;

		unit_ok(saved_is(json), "it is taken for one: %s", texts[i]);
		verdict = saved_read(json);
		unit_ok(verdict->result == NULL, "... without a result");
		foreach(cell, verdict->outputs)
			unit_ok(!OUTPUT_IS_THERE((Output *) lfirst(cell)), "... nor outputs");
	}
	unit_ok(!saved_is(parse("{\"data\":1}")) && !saved_is(parse("[]")), "an answer is none");
}

void
unit_run(void)
{
	test_round_trip();
	test_nonsense();
}
