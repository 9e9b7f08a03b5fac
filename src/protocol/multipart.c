/*
 * multipart.c
 *		Bodies of the type multipart/form-data (RFC 7578).
 *
 * Written here rather than with libcurl's mime API, because the engine is pure: genjob.preview shows
 * the body byte for byte without a transfer.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/media.h"
#include "protocol/multipart.h"

/*
 * Begins a body; boundary must not occur in any part, which a random UUID does not.
 */
void
multipart_begin(Multipart *body, const char *boundary)
{
	initStringInfo(&body->text);
	body->boundary = boundary;
}

/*
 * Appends a quoted parameter as browsers write it (WHATWG HTML, "Multipart
 * form data"): quotes and line breaks are percent-encoded.
 */
static void
append_quoted(StringInfo text, const char *name)
{
	appendStringInfoChar(text, '"');
	for (; *name != '\0'; name++)
	{
		if (*name == '"' || *name == '\r' || *name == '\n')
			appendStringInfo(text, "%%%02X", *name);
		else
			appendStringInfoChar(text, *name);
	}
	appendStringInfoChar(text, '"');
}

static void
begin_part(Multipart *body, const char *name)
{
	appendStringInfo(&body->text, "--%s\r\nContent-Disposition: form-data; name=", body->boundary);
	append_quoted(&body->text, name);
}

void
multipart_add_field(Multipart *body, const char *name, const char *value)
{
	begin_part(body, name);
	appendStringInfo(&body->text, "\r\n\r\n%s\r\n", value);
}

/*
 * Adds a file.  Its name gets the extension that is usual for its content
 * type.
 */
void
multipart_add_file(Multipart *body, const char *name, const char *file, const char *content_type,
				   const char *data, size_t len)
{
	begin_part(body, name);
	appendStringInfo(&body->text, "; filename=\"%s.%s\"\r\nContent-Type: %s\r\n\r\n", file,
					 media_extension_of(content_type), content_type);
	if (len > MaxAllocSize / 2)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s is too large to send: %zu bytes", file, len),
				 errhint("A form takes files of at most %zu bytes.", (size_t) MaxAllocSize / 2)));
	appendBinaryStringInfo(&body->text, data, (int) len);
	appendStringInfoString(&body->text, "\r\n");
}

void
multipart_end(Multipart *body)
{
	appendStringInfo(&body->text, "--%s--\r\n", body->boundary);
}
