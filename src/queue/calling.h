/*
 * calling.h
 *		Reads a job and calls its on_done function.
 */
#ifndef GENJOB_CALLING_H
#define GENJOB_CALLING_H

/* In a transaction, with SPI connected */
extern void calling_find_table(void);
extern bool calling_read_job(int64 job, int attempt, char **on_done, bool *has_ended);
extern void calling_run(const char *on_done, int64 job);

#endif /* GENJOB_CALLING_H */
