# horizon.gp BASE N NAMES: claim time (solid) and time to write the answer (dashed) of N runs over time.
load system('dirname '.ARG0).'/style.gp'
set output ARG1.'.svg'
set title 'Time in SQL for each job at 1,000 jobs/s, while dead rows cannot be removed'
set xlabel 'seconds'
set ylabel 'µs a job'
set xrange [0:*] noextend
split(text, i) = i == 1 || strstrt(text, '|') == 0 ? (strstrt(text, '|') ? text[1:strstrt(text, '|') - 1] : text) : split(text[strstrt(text, '|') + 1:], i - 1)
plot for [i = 1:int(ARG2)] ARG1.'-'.i.'.tsv' using 1:2 with lines lw 2 dt 1 lc rgb colour[i] title 'claim, '.split(ARG3, i), \
	for [i = 1:int(ARG2)] ARG1.'-'.i.'.tsv' using 1:3 with lines lw 2 dt 2 lc rgb colour[i] title 'answer, '.split(ARG3, i)
