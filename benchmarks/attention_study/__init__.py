"""Study of the rules of `attention`: really trained models, faults planted in copies of them, and a naive reading beside."""
