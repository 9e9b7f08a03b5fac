/*
 * picture.c
 *		Drawing the pictures that the stand-in answers with.
 *
 * A picture depends on nothing but its description, so a test can ask twice and
 * compare.  The PNG is stored, not compressed: quick to make, and of the size
 * that a generated photograph has.
 */
#include "standin.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MAX_SIDE 4096
#define MAX_PICTURES 10
#define DEFAULT_SIDE 16

/* The last picture drawn; one process, one thread, one picture at a time */
static unsigned char *png;
static size_t png_size;
static z_stream deflater;

/* What the pixels of a row have in common with those of the next (columns_prepare) */
static unsigned char column_field[MAX_SIDE];
static unsigned char column_slope[MAX_SIDE];
static int columns_width;

/* Draws the next of a row of numbers that "state" stands for (xorshift). */
static uint32_t
random_next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static bool
picture_read_side(const Body *body, const char *name, int *side, char **why)
{
	double number = *side;

	if (body_number(body, name, &number) && !(number >= 1 && number <= MAX_SIDE))
	{
		if (asprintf(why, "Invalid value for '%s': expected 1 to %d.", name, MAX_SIDE) < 0)
			*why = NULL;
		return false;
	}
	*side = (int) number;
	return true;
}

/* "1024x768", or "auto", or none. */
static bool
picture_read_size(Picture *picture, const Body *body, char **why)
{
	const char *size = body_text(body, "size");
	char rest;

	if (size == NULL || strcmp(size, "auto") == 0)
		return true;
	if (sscanf(size, "%dx%d%c", &picture->width, &picture->height, &rest) == 2 &&
		picture->width >= 1 && picture->width <= MAX_SIDE && picture->height >= 1 &&
		picture->height <= MAX_SIDE)
		return true;
	if (asprintf(why,
				 "Invalid value for 'size': \"%.40s\". Expected \"WIDTHxHEIGHT\" of 1 to %d each, "
				 "or \"auto\".",
				 size, MAX_SIDE) < 0)
		*why = NULL;
	return false;
}

/*
 * Describes the pictures that a request asks for, from its prompt, seed, n and
 * size (or width and height).  False: a value is not valid, and "why", to be
 * freed by the caller, says which.
 */
bool
picture_describe(Picture *picture, const Body *body, char **why)
{
	const char *prompt = body_prompt(body);
	double n = 1;
	double seed = 0;
	char digits[64];

	picture->width = picture->height = DEFAULT_SIDE;
	if (!picture_read_size(picture, body, why) ||
		!picture_read_side(body, "width", &picture->width, why) ||
		!picture_read_side(body, "height", &picture->height, why))
		return false;
	if (body_number(body, "n", &n) && !(n >= 1 && n <= MAX_PICTURES))
	{
		if (asprintf(why, "Invalid value for 'n': expected 1 to %d.", MAX_PICTURES) < 0)
			*why = NULL;
		return false;
	}
	picture->n = (int) n;
	picture->prompt_bytes = prompt ? strlen(prompt) : 0;
	picture->seed = crc32(0, (const Bytef *) (prompt ? prompt : ""), (uInt) picture->prompt_bytes);
	if (body_number(body, "seed", &seed))
		picture->seed = crc32(picture->seed, (const Bytef *) digits,
							  (uInt) snprintf(digits, sizeof(digits), "%.17g", seed));
	return true;
}

/* Makes the pictures depend on an input of the request. */
void
picture_mix_input(Picture *picture, const void *data, size_t len)
{
	picture->seed = (uint32_t) crc32_z(picture->seed, data, len);
	picture->input_bytes += len;
}

/* Makes the pictures depend on a member of a JSON object, if it is there. */
void
picture_mix_member(Picture *picture, const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
	char *text;

	if (item == NULL || cJSON_IsNull(item))
		return;
	text = cJSON_PrintUnformatted(item);
	picture_mix_input(picture, text, strlen(text));
	free(text);
}

static void
bytes_put_uint32(unsigned char *at, uint32_t number)
{
	at[0] = (unsigned char) (number >> 24);
	at[1] = (unsigned char) (number >> 16);
	at[2] = (unsigned char) (number >> 8);
	at[3] = (unsigned char) number;
}

/* Closes a PNG chunk whose type and "len" bytes of data stand at "chunk" + 4; returns its end. */
static unsigned char *
png_close_chunk(unsigned char *chunk, const char *type, uint32_t len)
{
	bytes_put_uint32(chunk, len);
	memcpy(chunk + 4, type, 4);
	bytes_put_uint32(chunk + 8 + len, (uint32_t) crc32(0, chunk + 4, len + 4));
	return chunk + 12 + len;
}

/* Which of the four mirrored fields each pixel of a row is in, and how far it is up the slope. */
static void
columns_prepare(int width)
{
	if (width == columns_width)
		return;
	for (int x = 0; x < width; x++)
	{
		int column = x * 8 / width;

		column_field[x] = (unsigned char) (column < 4 ? column : 7 - column);
		column_slope[x] = (unsigned char) (x * 60 / width);
	}
	columns_width = width;
}

/*
 * One row of pixels, 3 bytes each after the filter byte: a pattern of eight by
 * eight fields, left and right mirrored, over a slope of colour.
 */
static void
picture_draw_row(const Picture *picture, uint32_t seed, int y, unsigned char *row)
{
	uint32_t fields = seed ^ (uint32_t) (y * 8 / picture->height + 1) * 0x9E3779B1u;
	uint32_t bits = random_next(&fields);
	unsigned slope = (unsigned) (y * 60 / picture->height);

	*row++ = 0;
	for (int x = 0; x < picture->width; x++)
	{
		unsigned share = bits >> column_field[x] & 1 ? 1 : 3;

		*row++ = (unsigned char) ((seed & 0xFF) * share / 4 + column_slope[x]);
		*row++ = (unsigned char) ((seed >> 8 & 0xFF) * share / 4 + slope);
		*row++ = (unsigned char) ((seed >> 16 & 0xFF) * share / 4);
	}
}

/* Writes the rows as a zlib stream to "out", of "size" bytes at most; returns its length. */
static size_t
picture_draw_rows(const Picture *picture, uint32_t seed, unsigned char *out, size_t size)
{
	unsigned char row[1 + 3 * MAX_SIDE];

	columns_prepare(picture->width);
	deflater.next_out = out;
	deflater.avail_out = (uInt) size;
	for (int y = 0; y < picture->height; y++)
	{
		picture_draw_row(picture, seed, y, row);
		deflater.next_in = row;
		deflater.avail_in = (uInt) (1 + 3 * picture->width);
		if (deflate(&deflater, y + 1 < picture->height ? Z_NO_FLUSH : Z_FINISH) < 0)
			errx(1, "could not draw a picture: zlib has run out of space");
	}
	return size - deflater.avail_out;
}

static void
picture_reserve(size_t size)
{
	if (deflater.state == NULL && deflateInit(&deflater, Z_NO_COMPRESSION) != Z_OK)
		errx(1, "could not set up zlib");
	deflateReset(&deflater);
	if (size > png_size)
	{
		free(png);
		png = malloc(size);
		png_size = size;
		if (png == NULL)
			errx(1, "out of memory");
	}
}

/*
 * Draws picture number "index" of the description as a PNG of "len" bytes,
 * which stands until the next one is drawn.
 */
const void *
picture_draw(const Picture *picture, int index, size_t *len)
{
	static const unsigned char signature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
	size_t raw = (size_t) picture->height * (1 + 3 * (size_t) picture->width);
	size_t room = raw + raw / 1000 + 1024;
	uint32_t state = picture->seed + (uint32_t) index * 0x85EBCA6Bu;
	unsigned char *chunk;

	state = state ? state : 1;
	picture_reserve(room + 128);
	memcpy(png, signature, sizeof(signature));
	chunk = png + sizeof(signature);
	bytes_put_uint32(chunk + 8, (uint32_t) picture->width);
	bytes_put_uint32(chunk + 12, (uint32_t) picture->height);
	memcpy(chunk + 16, "\x08\x02\x00\x00\x00", 5); /* 8 bits of red, green, blue */
	chunk = png_close_chunk(chunk, "IHDR", 13);
	chunk = png_close_chunk(chunk, "IDAT",
							(uint32_t) picture_draw_rows(picture, random_next(&state), chunk + 8,
														 room));
	chunk = png_close_chunk(chunk, "IEND", 0);
	*len = chunk - png;
	return png;
}

/* Adds picture "index" of the call as a JSON string of base64, or of what only looks like it. */
void
picture_add_base64(Call *call, struct evbuffer *out, int index)
{
	size_t len;
	const void *data;

	evbuffer_add(out, "\"", 1);
	if (call->fault.garbage == GARBAGE_BAD_BASE64)
		evbuffer_add_printf(out, "iVBORw0KGgo@@@ this is not base64 @@@");
	else
	{
		data = picture_draw(&call->picture, index, &len);
		json_add_base64(out, data, len);
	}
	evbuffer_add(out, "\"", 1);
}

void
picture_free_buffers(void)
{
	deflateEnd(&deflater);
	free(png);
}
