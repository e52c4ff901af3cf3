SELECT a,b from  t WHERE a=1 order by B
