/*
 * links.c
 *		Links to objects in a request: {"$output_url": [job, ordinal]} and
 *		{"$url": "s3://bucket/key"}.
 *
 * The caller makes the links, because that takes the keys of an object store,
 * and passes them in the references.  This file puts them in place of the
 * nodes.  An output that is in the table has no link: its bytes are sent.
 * Where the api takes only bytes, every link becomes a reference to the bytes.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/clip.h"
#include "protocol/binary.h"
#include "protocol/building.h"
#include "protocol/links.h"

#define MAX_SHOWN 100 /* bytes of a wrong value in an error */

static cJSON *
member_of(const cJSON *node, const char *name)
{
	return cJSON_IsObject(node) ? cJSON_GetObjectItemCaseSensitive(node, name) : NULL;
}

/*
 * True if node is {"$url": ...}; sets *url to its text.  Raises an error for
 * the user if it has no text.
 */
bool
links_is_url(const cJSON *node, const char **url)
{
	const cJSON *text = member_of(node, "$url");

	if (text == NULL)
		return false;
	if (!cJSON_IsString(text) || *text->valuestring == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the request has a \"$url\" that is not a text"),
						errhint("Write {\"$url\": \"s3://bucket/key\"}.")));
	*url = text->valuestring;
	return true;
}

/*
 * True if url names an object, for which a link must be made.
 */
bool
links_is_object(const char *url)
{
	return strncmp(url, "s3://", 5) == 0;
}

/*
 * Turns the nodes below parent that stand for links into references to bytes,
 * where the api takes no links.
 */
void
links_settle(const RequestSource *source, cJSON *parent)
{
	bool all = source->options->protocol.kind.links_as == LINKS_AS_BYTES;
	cJSON *node;

	check_stack_depth();
	for (node = parent->child; node != NULL; node = node->next)
	{
		cJSON *link = member_of(node, "$output_url");
		const char *url;

		if (link == NULL && links_is_url(node, &url) && links_is_object(url))
			link = member_of(node, "$url");
		if (link == NULL)
			links_settle(source, node);
		else if (all || binary_is_bare_place(source, parent, node))
			link->string = pstrdup("$output");
	}
}

static void
become_text(cJSON *node, const char *text)
{
	node->type = cJSON_String;
	node->child = NULL;
	node->valuestring = pstrdup(text);
}

static void
refuse_url(const char *url)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("could not make a link to \"%s\", which the request names",
						   clip_line(url, strlen(url), MAX_SHOWN)),
					errhint("Write {\"$url\": \"s3://bucket/key\"}.")));
}

/*
 * Puts the link, or a reference to the bytes, in place of a node that stands for an output.
 */
static void
resolve_output(const RequestSource *source, cJSON *node, cJSON *pair)
{
	const Reference *found = binary_find_reference(source, node);

	if (found != NULL && found->link != NULL)
		become_text(node, found->link);
	else
		pair->string = pstrdup("$output"); /* binary_find() checks that it exists */
}

/*
 * Puts links in place of all nodes below params that stand for them.
 */
void
links_resolve(const RequestSource *source, cJSON *params)
{
	cJSON *node;

	check_stack_depth();
	for (node = params; node != NULL; node = node->next)
	{
		cJSON *pair = member_of(node, "$output_url");
		const char *url;

		if (pair != NULL)
			resolve_output(source, node, pair);
		else if (links_is_url(node, &url))
		{
			const Reference *found = binary_find_reference(source, node);

			if (found != NULL && found->link != NULL)
				become_text(node, found->link);
			else if (strncmp(url, "https://", 8) == 0 || strncmp(url, "http://", 7) == 0)
				become_text(node, url);
			else
				refuse_url(url);
		}
		else
			links_resolve(source, node->child);
	}
}

/*
 * Notes what the request's links have of secrets, so that no answer repeats
 * it.  Calls about a prediction need this, too: many providers show its input
 * in each answer.
 */
void
links_note_secrets(HttpRequest *http, const RequestSource *source)
{
	ListCell *cell;

	foreach(cell, source->link_secrets)
		headers_add_secret(http, pstrdup(lfirst(cell)));
}

/*
 * For previews, which call nothing: sets words in place of the link to an
 * object, and of its bytes.
 */
void
links_show(Reference *reference)
{
	if (reference->url == NULL)
		return;
	if (reference->wants_link)
		reference->link = psprintf("(a link to %s)", reference->url);
	if (!reference->wants_data)
		return;
	reference->data = psprintf("(the bytes of %s)", reference->url);
	reference->len = strlen(reference->data);
	if (reference->content_type == NULL)
		reference->content_type = "application/octet-stream";
}
