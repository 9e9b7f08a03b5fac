# horizon.gp BASE N NAMES: the dispatcher's processor time for each job, of N runs over time.
load system('dirname '.ARG0).'/style.gp'
set output ARG1.'.svg'
set title 'Processor time of the dispatcher for each job at 1,000 jobs/s, while dead rows cannot be removed'
set xlabel 'seconds'
set ylabel 'µs a job'
set xrange [0:*] noextend
split(text, i) = i == 1 || strstrt(text, '|') == 0 ? (strstrt(text, '|') ? text[1:strstrt(text, '|') - 1] : text) : split(text[strstrt(text, '|') + 1:], i - 1)
plot for [i = 1:int(ARG2)] ARG1.'-'.i.'.tsv' using 1:2 with lines lw 2 lc rgb colour[i] title split(ARG3, i)
