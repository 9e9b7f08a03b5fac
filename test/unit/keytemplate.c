/*
 * keytemplate.c
 *		Keys of outputs: which templates are taken, and what becomes of their words.
 */
#include "unit.h"

#include "server/keytemplate.h"

static const KeyWords words = {
	.server = "painter",
	.database = "shop",
	.owner = "app",
	.tenant = "a/../b",
	.job = PG_INT64_MAX,
	.attempt = 2,
	.ordinal = 3,
	.sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	.extension = "png",
	.started_unix = 1440938160,
};

static void
test_filling(void)
{
	KeyWords other = words;
	char *key;

	unit_is_text(keytemplate_fill("{server}/{yyyy}/{mm}/{dd}/{hh}/{job}-{attempt}-{ordinal}.{ext}",
								  &words),
				 "painter/2015/08/30/12/9223372036854775807-2-3.png", "every number and date");
	unit_is_text(keytemplate_fill("x{sha256}", &words),
				 "xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "the digest");
	unit_is_text(keytemplate_fill("{tenant}/{owner}/{database}", &words), "a_.._b/app/shop",
				 "a name has no slash");
	other.tenant = "..";
	unit_is_text(keytemplate_fill("a/{tenant}/b", &other), "a/_/b", "... and is no way up");
	other.tenant = "";
	unit_is_text(keytemplate_fill("a/{tenant}/b", &other), "a/_/b", "... nor empty");
	other.tenant = "line\nbreak\\";
	unit_is_text(keytemplate_fill("{tenant}", &other), "line_break_", "... nor of several lines");
	memset((key = palloc0(1001)), 'k', 1000);
	other.tenant = key;
	unit_is_int(strlen(keytemplate_fill("{tenant}", &other)), 200, "... nor long");
	key[199] = '\xc3';
	key[200] = '\xbc';
	unit_is_int(strlen(keytemplate_fill("{tenant}", &other)), 199,
				"... nor cut within a character");
}

static void
test_check(void)
{
	static const char *const good[] = {"{job}-{ordinal}",
									   "{sha256}",
									   "a/{sha256}/{job}",
									   "{ordinal}/x y/{job}",
									   "{tenant}-{job}-{ordinal}.{ext}",
									   "{job}-{tenant}-{ordinal}",
									   "{mm}{job}-{ordinal}",
									   "{job}{yyyy}-{ordinal}",
									   "{tenant}{sha256}.{ext}",
									   "{sha256}{ext}",
									   "{job}{attempt}/{job}/{ordinal}",
									   "{tenant}-{job}/{ordinal}-{owner}",
									   "..{job}/{ordinal}",
									   "\xc3\xbc{job}\xc3\xbc{ordinal}\xc3\xbc",
									   "a//{sha256}/"};
	static const char *const bad[] = {"", "{job}", "{ordinal}", "/{sha256}", "{sha256}{",
									  "{sha256}}", "{sha256}{}", "{sha256}{Job}", "{sha256}{jobs}",
									  "{sha256}\t",
									  /* the same key for several outputs */
									  "{job}{ordinal}", "{ordinal}{job}", "{tenant}{job}-{ordinal}",
									  "{server}{job}/{ordinal}", "{job}{attempt}-{ordinal}",
									  "{job}-{ordinal}{ext}", "{job}1{ordinal}",
									  "{job}-{ordinal}0{attempt}",
									  "{tenant}-{job}-{owner}-{ordinal}", "{tenant}{sha256}{owner}",
									  /* to which no link leads */
									  "../{sha256}", "./{sha256}", "a/../{sha256}", "{sha256}/.",
									  "{sha256}/.."};
	int i;

	for (i = 0; i < lengthof(good); i++)
		unit_ok(keytemplate_check(good[i]) == NULL, "a template: %s", good[i]);
	for (i = 0; i < lengthof(bad); i++)
		unit_ok(keytemplate_check(bad[i]) != NULL, "none: %s", bad[i]);
}

static void
test_ours(void)
{
	static const struct
	{
		const char *pattern;
		const char *key;
		bool may_be;
	} cases[] = {
		{"{server}/{yyyy}/{mm}/{job}-{ordinal}.{ext}", "painter/2026/11/17-1.png", true},
		{"{server}/{yyyy}/{mm}/{job}-{ordinal}.{ext}", "painter/2026/11/17-1", false},
		{"{server}/{yyyy}/{mm}/{job}-{ordinal}.{ext}", "painter/2026/11/a-1.png", false},
		{"{server}/{yyyy}/{mm}/{job}-{ordinal}.{ext}", "painter/2026/11/17-1.png.tmp", false},
		{"{server}/{yyyy}/{mm}/{job}-{ordinal}.{ext}", "sculptor/2026/11/17-1.png", false},
		{"{yyyy}{mm}{dd}/{tenant}/{job}-{ordinal}", "20261126/a-b/17-1", true},
		{"{yyyy}{mm}{dd}/{tenant}/{job}-{ordinal}", "20261126/a/b/17-1", false},
		{"{tenant}-{job}-{ordinal}", "a-b-17-1", true},
		{"{sha256}", "abc", true},
		{"{sha256}", "abx", false},
		{"{job}-{ordinal}", "17-1", true},
		{"{job}-{ordinal}", "", false},
		{"{job}-{ordinal}", "upload-by-hand.bin", false},
		{"{database}/{job}-{ordinal}", "shop/17-1", true},
		{"{database}/{job}-{ordinal}", "other/17-1", false},
	};
	KeyWords of_job = words;
	int i;

	for (i = 0; i < lengthof(cases); i++)
		unit_ok(keytemplate_may_be(cases[i].pattern, cases[i].key, &words) == cases[i].may_be,
				"%s by %s", cases[i].key, cases[i].pattern);
	unit_is_text(keytemplate_prefix("{server}/x/{yyyy}/{job}", &words), "painter/x/",
				 "what is fixed");
	unit_is_text(keytemplate_prefix("{job}-{server}", &words), "", "... which may be nothing");
	of_job.of_job = true;
	of_job.job = 17;
	unit_is_text(keytemplate_prefix("{server}/{tenant}/{job}-{ordinal}.{ext}", &of_job),
				 "painter/a_.._b/17-", "what is fixed for a job");
	unit_ok(keytemplate_may_be("{yyyy}/{job}-{ordinal}", "2026/17-3", &of_job), "a key of the job");
	unit_ok(!keytemplate_may_be("{yyyy}/{job}-{ordinal}", "2026/170-3", &of_job),
			"... and one of another job");
	unit_ok(!keytemplate_may_be("{owner}/{job}-{ordinal}", "other/17-3", &of_job), "... or owner");
	unit_ok(keytemplate_names_job("x/{job}-{ordinal}") && !keytemplate_names_job("{sha256}"),
			"whose keys are its own");
	unit_is_text(keytemplate_prefix("a/b", &words), "a/b", "... or all");
	unit_ok(keytemplate_needs_digest("a{sha256}") && !keytemplate_needs_digest("{job}"),
			"which need all of their output");
}

void
unit_run(void)
{
	test_ours();
	test_filling();
	test_check();
}
