# What all plots have in common. Called by them.
set terminal svg size 760,380 font 'sans-serif,13' background '#ffffff'
set border 3 lc rgb '#666666'
set tics nomirror out
set grid ytics lc rgb '#dddddd' lw 1 lt 1
set key outside bottom center horizontal reverse Left samplen 3 width 2
set yrange [0:*]
array colour[4] = ['#1f6f8b', '#d1495b', '#66a182', '#8d6a9f']
