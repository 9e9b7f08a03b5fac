/*
 * binary.c
 *		The binaries that go into a request.
 *
 * A binary is one of the job's own inputs, {"$input": n}, or an output of an earlier job,
 * {"$output": [job, ordinal]}.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/clip.h"
#include "base/media.h"
#include "protocol/binary.h"
#include "protocol/links.h"
#include "server/grammar.h"

#define MAX_REFERENCES 1000
#define MAX_SHOWN 100 /* bytes of a wrong reference in an error */

/* ---------- what a request refers to ---------- */

/*
 * True if node is a whole number from 1 to max; sets *value.  Reads the text,
 * because a double cannot represent every large number.
 */
static bool
read_positive(const cJSON *node, int64 max, int64 *value)
{
	const char *text = cJSON_IsNumber(node) ? node->valuestring : NULL;
	size_t len;

	if (text == NULL)
		return false;
	len = strlen(text);
	if (len > 19 || strspn(text, "0123456789") != len)
		return false;
	errno = 0;
	*value = strtoi64(text, NULL, 10);
	return errno == 0 && *value >= 1 && *value <= max;
}

/*
 * Returns a wrong number or pair of the request, cut for an error message.
 */
static char *
show_reference(const cJSON *node)
{
	char *text = json_print_start(node, 2 * MAX_SHOWN);

	return clip_line(text, strlen(text), MAX_SHOWN);
}

static const cJSON *
member_of(const cJSON *node, const char *name)
{
	return cJSON_IsObject(node) ? cJSON_GetObjectItemCaseSensitive(node, name) : NULL;
}

/*
 * True if node is {"$input": n}; sets *ordinal to n, from 1.  Raises an error
 * for the user if the job has no input n.
 */
bool
binary_is_input(const RequestSource *source, const cJSON *node, int *ordinal)
{
	const cJSON *number = source->is_literal ? NULL : member_of(node, "$input");
	int n = source->n_inputs;
	int64 value;

	if (number == NULL)
		return false;
	if (!read_positive(number, n, &value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the request refers to input %s, which does not exist",
						show_reference(number)),
				 n == 0 ? errdetail("The job has no inputs.")
						: errdetail_plural("The job has %d input.", "The job has %d inputs.", n, n),
				 errhint("Inputs are numbered from 1 in the order of the column \"inputs\".")));
	*ordinal = (int) value;
	return true;
}

/*
 * Reads [job, ordinal].  Raises an error for the user if pair is anything
 * else.
 */
static void
read_pair(const cJSON *pair, Reference *reference)
{
	int64 ordinal;

	if (!cJSON_IsArray(pair) || cJSON_GetArraySize(pair) != 2 ||
		!read_positive(pair->child, PG_INT64_MAX, &reference->job) ||
		!read_positive(pair->child->next, PG_INT32_MAX, &ordinal))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the request refers to output %s, which is not a job and an ordinal",
							   show_reference(pair)),
						errhint("Write {\"$output\": [7, 1]} for the first output of job 7.")));
	reference->ordinal = (int) ordinal;
}

/*
 * True if node is {"$output": [job, ordinal]} or {"$output":
 * "s3://bucket/key"}; sets *reference.
 */
static bool
is_output(const cJSON *node, Reference *reference)
{
	const cJSON *pair = member_of(node, "$output");

	if (pair == NULL)
		return false;
	memset(reference, 0, sizeof(Reference));
	reference->wants_data = true;
	if (cJSON_IsString(pair) && links_is_object(pair->valuestring))
		reference->url = pair->valuestring;
	else
		read_pair(pair, reference);
	return true;
}

/*
 * True if the preset takes only bare base64 here: at the member "data" of an
 * object that the preset's bare_in names.
 */
bool
binary_is_bare_place(const RequestSource *source, const cJSON *parent, const cJSON *node)
{
	const char *names = source->options->preset->bare_in;
	const char *name;
	int len;

	if (names == NULL || parent->string == NULL || node->string == NULL ||
		strcmp(node->string, "data") != 0)
		return false;
	while ((name = grammar_next_word(&names, &len)) != NULL)
	{
		if (strlen(parent->string) == len && strncmp(parent->string, name, len) == 0)
			return true;
	}
	return false;
}

/*
 * True if node is {"$output_url": [job, ordinal]}, or {"$url": ...} of an
 * object; sets *reference, which the caller has zeroed.
 */
static bool
is_link(const cJSON *node, Reference *reference)
{
	const cJSON *pair = member_of(node, "$output_url");

	reference->wants_link = true;
	if (pair == NULL)
		return links_is_url(node, &reference->url) && links_is_object(reference->url);
	read_pair(pair, reference);
	return true;
}

/*
 * True if node is {"$result": [job, place]}; sets *reference to that job's
 * result, and *place to the JSON Pointer.
 */
bool
binary_is_result(const cJSON *node, Reference *reference, const char **place)
{
	const cJSON *pair = member_of(node, "$result");

	if (pair == NULL)
		return false;
	memset(reference, 0, sizeof(Reference));
	if (!cJSON_IsArray(pair) || cJSON_GetArraySize(pair) != 2 ||
		!read_positive(pair->child, PG_INT64_MAX, &reference->job) ||
		!cJSON_IsString(pair->child->next) ||
		(pair->child->next->valuestring[0] != '\0' && pair->child->next->valuestring[0] != '/'))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the request refers to result %s, which is not a job and a JSON Pointer",
						show_reference(pair)),
				 errhint(
					 "Write {\"$result\": [7, \"/text\"]} for the member text of the result of job 7.")));
	*place = pair->child->next->valuestring;
	return true;
}

/*
 * Returns the name of the member by which node stands for a value or a binary;
 * NULL if node stands for nothing else.
 */
static const char *
name_of_reference(const cJSON *node)
{
	static const char *const names[] = {"$input", "$output", "$output_url",
										"$url",   "$result", "$concat"};
	int i;

	for (i = 0; i < lengthof(names); i++)
	{
		if (member_of(node, names[i]) != NULL)
			return names[i];
	}
	return NULL;
}

static void
check_alone(const cJSON *node)
{
	check_stack_depth();
	for (; node != NULL; node = node->next)
	{
		const char *name = name_of_reference(node);
		const cJSON *other = name ? node->child : NULL;

		while (other != NULL && strcmp(other->string, name) == 0)
			other = other->next;
		if (other != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the request has \"%s\" beside \"%s\" in an object",
							clip_line(other->string, strlen(other->string), MAX_SHOWN), name),
					 errdetail("genjob replaces an object with \"%s\" as a whole, so it cannot have other members.",
							   name),
					 errhint("Write {\"%s\": ...} alone, and other members in the object around it.",
							 name)));
		check_alone(node->child);
	}
}

/*
 * Raises an error for the user if the request as a whole is a reference,
 * unless it is {"$input": n}.
 */
static void
check_whole(const cJSON *request)
{
	const char *name = name_of_reference(request);

	if (name != NULL && strcmp(name, "$input") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the request as a whole is {\"%s\": ...}", name),
				 errdetail("It must be an object of the server's own parameters."),
				 errhint("Write it as the value of a parameter, such as {\"prompt\": {\"%s\": ...}}.",
						 name)));
}

/*
 * Raises an error for the user if an object of the request has other members
 * beside a reference, or if the request as a whole is a reference other than
 * {"$input": n}.
 */
void
binary_check_alone(const RequestSource *source)
{
	cJSON *request;

	if (source->is_literal || strstr(source->request, "\"$") == NULL)
		return;
	request = json_parse_trusted(source->request);
	check_whole(request);
	check_alone(request);
}

static int
compare_references(const Reference *a, const Reference *b)
{
	if (a->job != b->job)
		return a->job < b->job ? -1 : 1;
	if (a->ordinal != b->ordinal)
		return a->ordinal < b->ordinal ? -1 : 1;
	return a->job == 0 ? strcmp(a->url, b->url) : 0;
}

/*
 * Returns the index of wanted in a sorted list, or where it belongs.  Searches
 * by halves: a request may name a thousand references a million times.
 */
static int
place_of_reference(const Reference *references, int n, const Reference *wanted)
{
	int low = 0;
	int high = n;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (compare_references(&references[middle], wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static Reference *
find_reference(Reference *references, int n, const Reference *wanted)
{
	int i = place_of_reference(references, n, wanted);

	return i < n && compare_references(&references[i], wanted) == 0 ? &references[i] : NULL;
}

static void
add_reference(Reference *references, int *n, const Reference *found)
{
	int i = place_of_reference(references, *n, found);

	if (i < *n && compare_references(&references[i], found) == 0)
	{
		references[i].wants_data |= found->wants_data;
		references[i].wants_link |= found->wants_link;
		return;
	}
	if (*n == MAX_REFERENCES)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the request refers to more than %d outputs", MAX_REFERENCES),
						errhint("Split the request into several jobs.")));
	memmove(&references[i + 1], &references[i], (*n - i) * sizeof(Reference));
	references[i] = *found;
	(*n)++;
}

static void
list_references(const cJSON *node, Reference *references, int *n)
{
	check_stack_depth();
	for (; node != NULL; node = node->next)
	{
		Reference found = {0};
		Reference link = {0};

		const char *place;

		if (is_output(node, &found) || binary_is_result(node, &found, &place))
			add_reference(references, n, &found);
		else if (is_link(node, &link))
			add_reference(references, n, &link);
		else
			list_references(node->child, references, n);
	}
}

/*
 * Returns the outputs, results and objects that a request refers to, each
 * once, sorted, palloc'd and without their data.  Raises an error for the user
 * if a reference is malformed.
 */
Reference *
binary_list_references(const cJSON *params, int *n)
{
	Reference *references = palloc(MAX_REFERENCES * sizeof(Reference));
	int found = 0;

	*n = 0; /* also after an error */
	list_references(params->child, references, &found);
	*n = found;
	return repalloc(references, Max(found, 1) * sizeof(Reference));
}

/*
 * Returns the source's reference for a node that stands for a link; NULL if
 * there is none.
 */
const Reference *
binary_find_reference(const RequestSource *source, const cJSON *node)
{
	Reference wanted = {0};

	return is_link(node, &wanted)
			   ? find_reference(source->references, source->n_references, &wanted)
			   : NULL;
}

static bool
refers_to_outputs(const cJSON *node)
{
	Reference reference;

	check_stack_depth();
	for (; node != NULL; node = node->next)
	{
		if (is_output(node, &reference) || refers_to_outputs(node->child))
			return true;
	}
	return false;
}

/*
 * True if binaries go into the request.
 */
bool
binary_is_in(const RequestSource *source, const cJSON *params)
{
	return source->n_inputs > 0 || (!source->is_literal && refers_to_outputs(params->child));
}

/*
 * Returns the source's reference that equals wanted; NULL if there is none.
 */
Reference *
binary_find_result(const RequestSource *source, const Reference *wanted)
{
	return find_reference(source->references, source->n_references, wanted);
}

/* ---------- their data ---------- */

/*
 * Returns the content type that an output was stored with, if it is well
 * formed, else the type that its bytes show.
 */
static const char *
type_of_reference(const Reference *reference)
{
	const char *type = reference->content_type;

	if (strchr(type, '/') != NULL &&
		strspn(type, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/.+-") ==
			strlen(type))
		return type;
	return media_type_of(reference->data, reference->len);
}

/*
 * Returns an input by its ordinal; the data belongs to the source.
 */
Binary
binary_of_input(const RequestSource *source, int ordinal)
{
	const Input *input = &source->inputs[ordinal - 1];
	Binary binary = {psprintf("input%d", ordinal), media_type_of(input->data, input->len),
					 input->data, input->len};

	return binary;
}

static Binary
binary_of_output(const RequestSource *source, const Reference *wanted)
{
	const Reference *found = find_reference(source->references, source->n_references, wanted);
	Binary binary;

	if (wanted->job == 0 && (found == NULL || found->data == NULL))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the object %s was not fetched", wanted->url),
						errhint("Write its URL as \"s3://bucket/key\".")));
	if (found == NULL || found->data == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("job " INT64_FORMAT " has no output %d, or it is not yours", wanted->job,
						wanted->ordinal),
				 errhint("Look for it in gen_outputs: job " INT64_FORMAT
						 " must have ended, and this job's owner must be a member of the role that owns job " INT64_FORMAT
						 ".",
						 wanted->job, wanted->job)));
	binary.name = found->job == 0
					  ? "object"
					  : psprintf("output" INT64_FORMAT "-%d", found->job, found->ordinal);
	binary.content_type = type_of_reference(found);
	binary.data = found->data;
	binary.len = found->len;
	return binary;
}

/*
 * True if node stands for a binary; sets *binary, which points into the
 * source.  Raises an error for the user if the source does not have it.
 */
bool
binary_find(const RequestSource *source, const cJSON *node, Binary *binary)
{
	Reference reference;
	int ordinal;

	if (binary_is_input(source, node, &ordinal))
		*binary = binary_of_input(source, ordinal);
	else if (!source->is_literal && is_output(node, &reference))
		*binary = binary_of_output(source, &reference);
	else
		return false;
	return true;
}

/*
 * True if node stands for a binary; an output need not have been fetched.
 */
bool
binary_is_named(const RequestSource *source, const cJSON *node)
{
	Reference reference;
	int ordinal;

	return binary_is_input(source, node, &ordinal) ||
		   (!source->is_literal && is_output(node, &reference));
}
