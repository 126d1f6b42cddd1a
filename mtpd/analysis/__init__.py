"""What training has made of a student: its loss, its AP, its landscape."""
