/*
 * steps.c
 *		The table of the steps of a job's life: each has a file, and here a row.
 */
#include "postgres.h"

#include "life/asking.h"
#include "life/cancelline.h"
#include "life/life.h"
#include "life/pour.h"
#include "life/step.h"
#include "life/verdict.h"

/* clang-format off */

/* The first step whose is_due() is true deals with a verdict. */
const Step steps_table[JOB_STEPS] = {
	[STEP_SUBMIT] = {
		.name = "submit", .phase = ACTIVITY_CALLING, .may_be_judged_apart = true,
		.build = submit_build, .unbuilt = submit_unbuilt, .starved = submit_starved, .began = progress_expect,
		.answered = submit_answered, .judge = reply_judge, .woken = progress_woken},

	[STEP_FETCH] = {
		.name = "fetch", .phase = ACTIVITY_FETCHING, .may_be_judged_apart = true,
		.build = fetch_build, .unbuilt = fetch_unbuilt, .starved = fetch_starved,
		.answered = fetch_answered, .judge = reply_judge, .woken = fetch_woken, .saved = fetch_saved},

	[STEP_LOOKUP] = {
		.name = "lookup", .counts_crashes = true, .phase = ACTIVITY_POLLING, .only_asks = true, .line_up = asking_line_up,
		.may_be_judged_apart = true,
		.is_due = lookup_is_due, .begin = lookup_begin,
		.build = lookup_build, .unbuilt = lookup_unbuilt, .given_up = lookup_given_up,
		.answered = lookup_answered},

	[STEP_POLL] = {
		.name = "poll", .counts_crashes = true, .phase = ACTIVITY_POLLING, .only_asks = true, .line_up = asking_line_up,
		.may_be_judged_apart = true,
		.is_due = poll_is_due, .begin = poll_begin,
		.build = poll_build, .unbuilt = poll_unbuilt,
		.answered = poll_answered, .judge = poll_judge, .woken = poll_woken},

	[STEP_RESULT] = {
		.name = "result", .counts_crashes = true, .phase = ACTIVITY_POLLING, .only_asks = true, .line_up = asking_line_up,
		.may_be_judged_apart = true,
		.build = poll_build_result, .unbuilt = poll_unbuilt,
		.answered = poll_answered_result, .judge = poll_judge_result},

	[STEP_DOWNLOAD] = {
		.name = "download", .counts_crashes = true, .phase = ACTIVITY_DOWNLOADING, .may_be_judged_apart = true,
		.is_due = download_is_due, .begin = download_begin,
		.build = download_build, .unbuilt = download_unbuilt, .given_up = download_given_up,
		.answered = download_answered, .uploaded = pour_go_on, .woken = download_woken},

	[STEP_STORE] = {
		.name = "store", .counts_crashes = true, .phase = ACTIVITY_STORING,
		.is_due = store_is_due, .begin = store_begin,
		.build = store_build, .unbuilt = store_unbuilt, .given_up = store_given_up, .starved = store_starved,
		.answered = store_answered, .uploaded = store_uploaded, .woken = store_woken},

	[STEP_CANCEL] = {
		.name = "cancel", .counts_crashes = true, .line_up = cancelline_line_up, .needs_no_body = true,
		.build = cancel_build, .unbuilt = cancel_unbuilt, .given_up = cancel_given_up, .starved = cancel_starved,
		.answered = cancel_answered, .admitted = cancel_admitted, .saved = cancel_saved},

	[STEP_PART] = {.name = "part", .is_beside = true},

	[STEP_PROGRESS] = {
		.name = "progress", .is_beside = true, .needs_no_body = true,
		.build = progress_build, .unbuilt = progress_unbuilt, .starved = progress_starved,
		.answered = progress_answered},
};

/* clang-format on */

const char *
life_step_name(JobStep step)
{
	return steps_table[step].name;
}
