"""The student's view of an image at the teacher's size."""
