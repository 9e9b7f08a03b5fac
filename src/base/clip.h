/*
 * clip.h
 *		Text of strangers, cut to a line that fits into a message.
 */
#ifndef GENJOB_CLIP_H
#define GENJOB_CLIP_H

extern char *clip_line(const char *text, size_t len, int max);

#endif /* GENJOB_CLIP_H */
