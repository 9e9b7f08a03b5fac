/*
 * stream.c
 *		What language models say, and the pieces they say it in.
 */
#include "standin.h"

#include <string.h>

/* The text that the call is answered with: of its script, or made of the prompt; to be freed. */
char *
call_said(const Call *call, const char *prompt)
{
	const char *text = script_text(call->script->json, "text");

	return text ? text_format("%s", text)
				: text_format("You said: %s", prompt ? prompt : "nothing");
}

/* How much of the text the next piece is: a word with the blanks after it; 0 at the end. */
size_t
text_piece_bytes(const char *text)
{
	size_t n = strcspn(text, " \n");

	return n + strspn(text + n, " \n");
}

/* How many pieces there are: what counts as tokens. */
size_t
text_pieces(const char *text)
{
	size_t count = 0;

	for (; *text; text += text_piece_bytes(text))
		count++;
	return count;
}
